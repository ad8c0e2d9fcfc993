"""The recordings that the Whisper reference values are made from, and how they are decoded.

Debian's asterisk-core-sounds-{en,es,fr,it,ru}(-g722) carry wideband prompts and their printed texts.
The tests decode the same files with the same ffmpeg command, so both sides see equal samples.
"""

import gzip
import os
import re
import subprocess
from pathlib import Path

import numpy as np

SOUNDS = Path("/usr/share/asterisk/sounds")
VOICES = {
    "en": "en_US_f_Allison",
    "es": "es_MX_f_Allison",
    "fr": "fr_CA_f_June",
    "it": "it_IT_m_Carlo",
    "ru": "ru_RU_f_IvrvoiceRU",
}
SAMPLE_RATE = 16_000


def cache_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "dragoman"


def model_folder(name: str = "whisper-base") -> Path:
    models = os.environ.get("DRAGOMAN_MODELS")
    return (Path(models) if models else cache_folder() / "models") / name


def resolve(clip: str) -> Path:
    """`sample-jfk/NAME` lies among the models, anything else among Asterisk's sounds."""
    return model_folder(clip) if clip.startswith("sample-jfk/") else SOUNDS / clip


def decode(path: Path) -> np.ndarray:
    """16 kHz mono float samples through ffmpeg."""
    source = ["-f", "g722", "-i", str(path)] if path.suffix == ".g722" else ["-i", str(path)]
    command = ["ffmpeg", "-v", "error", *source, "-ac", "1", "-ar", "16000", "-f", "f32le", "-"]
    raw = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return np.frombuffer(raw, dtype="<f4").copy()


def printed_texts(language: str) -> dict[str, str]:
    """Prompt name to printed text."""
    path = f"/usr/share/doc/asterisk-core-sounds-{language}/core-sounds-{language}.txt.gz"
    texts = {}
    for line in gzip.open(path, "rt", encoding="utf-8-sig", errors="replace"):
        name, separator, text = line.strip().partition(":")
        if separator and not name.startswith(";") and text.strip():
            texts[name.strip()] = text.strip()
    return texts


def is_plain(text: str) -> bool:
    """No stage directions, no digits (numerals have two spellings), no damaged accents."""
    damaged = "\ufffd" in text or re.search(r"\?(?!$)", text) is not None
    return not damaged and not re.search(r"[\[\]()<>0-9]", text)


def corpus(language: str, count: int) -> list[tuple[str, str]]:
    """`count` prompts of 2 to 28 s with plain texts: all of them sorted by name, every n-th."""
    suitable = []
    for name, text in sorted(printed_texts(language).items()):
        clip = f"{VOICES[language]}/{name}.g722"
        path = SOUNDS / clip
        if not path.exists() or not is_plain(text):
            continue
        # G.722 at 64 kbit/s: 8000 bytes are one second.
        if 2 <= path.stat().st_size / 8000 <= 28:
            suitable.append((clip, text))
    step = max(1, len(suitable) // count)
    return suitable[::step][:count]
