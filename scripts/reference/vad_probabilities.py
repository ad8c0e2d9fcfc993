"""Writes the speech probabilities that ONNX Runtime computes, for the VAD's parity test.

Needs: pip install numpy onnxruntime; ffmpeg for the G.722 prompts.
Usage: vad_probabilities.py --model silero_vad_16k_op15.onnx --out FILE.json AUDIO...

The recordings (16 kHz mono WAV or raw G.722) are joined end to end. The network sees 64 samples of
the previous chunk before each 512 new ones; a last incomplete chunk is left out.
"""

import argparse
import hashlib
import json
import pathlib
import subprocess

import numpy as np
import onnxruntime

CONTEXT, CHUNK = 64, 512


def pcm(path: pathlib.Path) -> np.ndarray:
    kind = ["-f", "g722"] if path.suffix == ".g722" else []
    command = ["ffmpeg", "-v", "error", *kind, "-i", str(path)]
    command += ["-f", "s16le", "-ac", "1", "-ar", "16000", "-"]
    return np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, "<i2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("audio", type=pathlib.Path, nargs="+")
    arguments = parser.parse_args()

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(arguments.model), options)
    samples = np.concatenate([pcm(path) for path in arguments.audio])
    signal = samples.astype(np.float32) / 32768
    state = np.zeros((2, 1, 128), np.float32)
    context = np.zeros(CONTEXT, np.float32)
    probabilities = []
    for start in range(0, len(signal) - CHUNK + 1, CHUNK):
        window = np.concatenate([context, signal[start : start + CHUNK]])
        inputs = {"input": window[None], "state": state, "sr": np.array(16000, np.int64)}
        probability, state = session.run(None, inputs)
        context = window[-CONTEXT:]
        probabilities.append(round(float(probability[0, 0]), 7))
    reference = {
        "recordings": ["/".join(path.parts[-2:]) for path in arguments.audio],
        "model_sha256": hashlib.sha256(arguments.model.read_bytes()).hexdigest(),
        "pcm_sha256": hashlib.sha256(samples.tobytes()).hexdigest(),
        "onnxruntime": onnxruntime.__version__,
        "probabilities": probabilities,
    }
    arguments.out.write_text(json.dumps(reference, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
