"""Our side: the project's own programs, each run beside a peer's."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

MODELS = Path(os.environ["DRAGOMAN_MODELS"])
WHISPER = MODELS / "whisper-base"
LANGUAGE_MODEL = MODELS / "qwen2.5-coder-1.5b-instruct"
KOKORO = MODELS / "kokoro-82m"
# One thread for each of candle's products: they would spin and fight over the cores.
ALONE = {"RAYON_NUM_THREADS": "1", "CANDLE_NUM_THREADS": "1"}


def gguf() -> Path:
    return next(LANGUAGE_MODEL.glob("*.gguf"))


def _run(example: str, *arguments: object) -> str:
    path = Path(os.environ["CARGO_TARGET_DIR"]) / "release" / "examples" / example
    command = [str(part) for part in (path, *arguments)]
    result = subprocess.run(
        command, env={**os.environ, **ALONE}, check=True, capture_output=True, text=True
    )
    return result.stdout


def transcribe(wav: Path) -> dict[str, float]:
    """Milliseconds of one recognition, whole and by part, after one that warms up."""
    line = _run("transcribe", WHISPER, "--language", "en", "--repeat", 3, wav)
    whole = [float(ms) for ms in re.findall(r" s in ([\d.]+) ms", line)][-1]
    part = {
        name: float(re.findall(rf"{name} ([\d.]+)", line)[-1])
        for name in ("encode", "cross", "prompt", "decode")
    }
    return {"whole": whole, **part}


def tokens_per_second(threads: int) -> dict[str, float]:
    """Of the language model: reading a sentence, and writing one."""
    report = json.loads(_run("translator_speed", gguf(), threads))
    return {"read": report["prefill_tok_s"], "write": report["decode_tok_s"]}


def speak(language: str, text: str, voice: str, threads: int) -> dict[str, float]:
    """Seconds until the first samples and for all of them, after two that warm up."""
    lines = _run("speak", language, text, os.devnull, voice, threads, 4).splitlines()
    found = re.search(r"first chunk ([\d.]+) s .*total ([\d.]+) s for ([\d.]+) s", lines[-1])
    first, total, audio = (float(number) for number in found.groups())
    return {"first": first, "total": total, "audio": audio}


def interpret(wav: Path, source: str, target: str) -> dict:
    """What the program itself makes of a recording: texts, and the times of every stage."""
    command = [os.environ["DRAGOMAN_PROGRAM"], "interpret", wav, "--json"]
    command += ["--from", source, "--to", target]
    result = subprocess.run(
        [str(part) for part in command], check=True, capture_output=True, text=True
    )
    return json.loads(result.stdout)
