"""An independent listener: faster-whisper on the same weights file as the server."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
from faster_whisper import WhisperModel

from harness.prompts import SAMPLE_RATE


def models() -> Path:
    """The folder of all weights."""
    named = os.environ.get("DRAGOMAN_MODELS")
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(cache_home) / "dragoman" / "models"


@cache
def _whisper() -> WhisperModel:
    folder = models() / "whisper-base"
    if not (folder / "model.bin").exists():
        raise FileNotFoundError(f"no weights in {folder}: run 'make models'")
    return WhisperModel(
        str(folder), device="cpu", compute_type="int8", cpu_threads=2, local_files_only=True
    )


def transcribe(samples: np.ndarray, language: str, *, rate: int = SAMPLE_RATE) -> str:
    """What is said in mono s16 samples."""
    if len(samples) < rate // 5:
        return ""
    segments, _ = _whisper().transcribe(
        to_16k(samples, rate),
        language=language,
        beam_size=5,
        condition_on_previous_text=False,
        vad_filter=True,
    )
    return " ".join(segment.text.strip() for segment in segments)


def to_16k(samples: np.ndarray, rate: int) -> np.ndarray:
    """Mono s16 at 48 or 16 kHz as 16 kHz floats."""
    signal = samples.astype(np.float32) / 32768
    if rate == 16_000:
        return signal
    if rate != 48_000:
        raise ValueError(f"cannot resample from {rate} Hz")
    return np.convolve(signal, _low_pass(), mode="same")[::3].astype(np.float32)


@cache
def _low_pass() -> np.ndarray:
    """Windowed sinc, 7.4 kHz at 48 kHz: nothing above the new Nyquist frequency is left."""
    taps = np.arange(-64, 65)
    kernel = np.sinc(2 * 7_400 / 48_000 * taps) * np.hamming(len(taps))
    return kernel / kernel.sum()
