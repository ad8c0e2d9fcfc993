"""Sounds that are not speech, as 48 kHz mono s16, and sounds as files."""

from __future__ import annotations

import random
import wave
from pathlib import Path

import numpy as np

from harness.prompts import SAMPLE_RATE, decode

MUSIC = Path("/usr/share/asterisk/moh")

# ITU-T Q.23: the two tones of each key.
DTMF_ROWS, DTMF_COLUMNS = (697, 770, 852, 941), (1209, 1336, 1477, 1633)
DTMF_KEYS = ("123A", "456B", "789C", "*0#D")


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * SAMPLE_RATE), dtype=np.int16)


def white_noise(seconds: float, *, level_dbfs: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(int(seconds * SAMPLE_RATE))
    return _to_s16(noise * 10 ** (level_dbfs / 20))


def dtmf(keys: str, *, tone_s: float = 0.15, gap_s: float = 0.1) -> np.ndarray:
    """The keys pressed one after the other."""
    time = np.arange(int(tone_s * SAMPLE_RATE)) / SAMPLE_RATE
    parts = []
    for key in keys:
        row = next(i for i, keys_of_row in enumerate(DTMF_KEYS) if key in keys_of_row)
        low, high = DTMF_ROWS[row], DTMF_COLUMNS[DTMF_KEYS[row].index(key)]
        tone = 0.25 * (np.sin(2 * np.pi * low * time) + np.sin(2 * np.pi * high * time))
        parts += [_to_s16(tone), silence(gap_s)]
    return np.concatenate(parts)


def music(seconds: float, *, seed: int) -> tuple[str, np.ndarray]:
    """An instrumental passage of Debian's music on hold, from a place that the seed draws. Returns
    where it is from, for the test's output."""
    draw = random.Random(seed)
    path = draw.choice(sorted(MUSIC.glob("*.g722")))
    # Past the intros, one of which has a talking robot.
    offset_s = draw.randrange(10, 60)
    passage = decode(path, offset_s=offset_s, duration_s=seconds)
    return f"{path.name} from {offset_s} s", passage


def write_wav(path: Path, samples: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.tobytes())
    return path


def _to_s16(signal: np.ndarray) -> np.ndarray:
    return np.clip(signal * 32767, -32768, 32767).astype(np.int16)
