"""Writes what llama.cpp answers greedily to fixed prompts: the reference of the decoder's parity test.

    pip install --only-binary :all: xllamacpp
    python translate_greedy.py GGUF PROMPTS.json > inference/tests/data/translate/greedy.json

PROMPTS.json is a list of token lists, as the example `translate_prompts` prints them, so that no
difference between two tokenizers can hide one between two decoders.
"""

import json
import sys

import xllamacpp

ANSWER = 24


def main() -> None:
    path, prompts = sys.argv[1:]
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx = 1024
    params.n_parallel = 1
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.n_gpu_layers = 0
    params.verbosity = 0
    server = xllamacpp.Server(params)
    cases = []
    with open(prompts, encoding="utf-8") as file:
        for prompt in json.load(file):
            answer = server.handle_completions(
                {
                    "prompt": prompt,
                    "n_predict": ANSWER,
                    "temperature": 0,
                    "cache_prompt": False,
                    "logprobs": 1,
                }
            )
            choice = answer["choices"][0]
            tokens = [token["id"] for token in choice["logprobs"]["content"]]
            cases.append({"prompt": prompt, "answer": tokens, "text": choice["text"]})
    json.dump(cases, sys.stdout, ensure_ascii=False, indent=None)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
