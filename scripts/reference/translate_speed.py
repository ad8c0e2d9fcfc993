"""Measures llama.cpp on the shapes that `cargo run --example translator_speed` measures.

    pip install --only-binary :all: xllamacpp
    python translate_speed.py GGUF [THREADS]

Reads a prefix once, then a sentence of 24 new tokens after it, then an answer of 24 tokens, and
prints one JSON object with llama.cpp's own timings (median of five rounds).
"""

import json
import statistics
import sys
import time

import xllamacpp

PROMPT = 24
ANSWER = 24
ROUNDS = 5


def main() -> None:
    path = sys.argv[1]
    threads = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx = 1024
    params.n_parallel = 1
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.n_gpu_layers = 0
    params.verbosity = 0
    server = xllamacpp.Server(params)

    def complete(prompt: list[int], count: int) -> dict:
        answer = server.handle_completions(
            {
                "prompt": prompt,
                "n_predict": count,
                "temperature": 0,
                "cache_prompt": True,
                "ignore_eos": True,
            }
        )
        return answer["timings"]

    prefix = [1000 + 7 * index for index in range(200)]
    complete(prefix, 1)
    prefill, decode, cpu = [], [], []
    for round_index in range(ROUNDS):
        sentence = [2000 + 11 * index + round_index for index in range(PROMPT)]
        began = time.process_time()
        timings = complete(prefix + sentence, ANSWER)
        cpu.append(time.process_time() - began)
        prefill.append(timings["prompt_per_second"])
        decode.append(timings["predicted_per_second"])
    print(
        json.dumps(
            {
                "threads": threads,
                "prompt_tokens_read": timings["prompt_n"],
                "prefill_tok_s": statistics.median(prefill),
                "decode_tok_s": statistics.median(decode),
                "cpu_s_per_round": statistics.median(cpu),
            }
        )
    )


if __name__ == "__main__":
    main()
