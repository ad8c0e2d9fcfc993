"""Recorded sentences with their texts: Debian's Asterisk core sounds in G.722.

A prompt of the same name in two languages is a pair of parallel sentences, so one is the reference
translation of the other. The Spanish texts are mostly written without accents.
"""

from __future__ import annotations

import gzip
import random
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SAMPLE_RATE = 48_000
G722_BYTES_PER_SECOND = 8_000

SOUNDS = Path("/usr/share/asterisk/sounds")
FOLDERS = {
    "en": "en_US_f_Allison",
    "es": "es_MX_f_Allison",
    "fr": "fr_CA_f_June",
    "it": "it_IT_m_Carlo",
    "ru": "ru_RU_f_IvrvoiceRU",
}
TEXTS = "/usr/share/doc/asterisk-core-sounds-{0}/core-sounds-{0}.txt.gz"

SHORTEST_S, LONGEST_S = 2.0, 6.0
FEWEST_WORDS = 4

# Words that the Spanish recording renders in its own way (the # key alone has four names there),
# so that its text is no reference for anybody's translation.
JARGON = ("pound", "hash", "star ", "pbx", "ivr", "pin", "envelope", "login", "unmute", "party")
# Marks of prompts that are not a whole sentence, or not speech alone.
FRAGMENT_MARKS = ("...", "[", "(", "*", "#", ":")
PAUSE_WITHIN = re.compile(r"[.,;!?](?!$)")
# In some Italian texts a question mark stands where an accented letter was.
LOST_LETTER = re.compile(r"\?(?!$)")


@dataclass(frozen=True)
class Prompt:
    """A recorded sentence: its text, and what it is in the other language."""

    name: str
    language: str
    text: str
    reference_language: str
    reference: str

    @property
    def path(self) -> Path:
        return recording(self.language, self.name)

    @property
    def duration_s(self) -> float:
        return self.path.stat().st_size / G722_BYTES_PER_SECOND

    @property
    def is_one_breath(self) -> bool:
        """Whether the text has no pause inside, which could make it two utterances."""
        return not PAUSE_WITHIN.search(self.text)

    def samples(self) -> np.ndarray:
        """The recording as 48 kHz mono s16."""
        return decode(self.path)


def recording(language: str, name: str) -> Path:
    return SOUNDS / FOLDERS[language] / f"{name}.g722"


@cache
def texts(language: str) -> dict[str, str]:
    """Prompt name to printed text."""
    entries = {}
    path = TEXTS.format(language)
    with gzip.open(path, "rt", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            name, colon, text = line.partition(":")
            if colon and not line.startswith(";"):
                entries[name.strip()] = " ".join(text.split())
    return entries


@cache
def pool(language: str, reference_language: str) -> tuple[Prompt, ...]:
    """Every prompt that can be scored, sorted by name: a whole sentence of 2 to 6 seconds in both
    languages whose wording is not telephone jargon."""
    spoken, references = texts(language), texts(reference_language)
    prompts = []
    for name in sorted(spoken.keys() & references.keys()):
        prompt = Prompt(name, language, spoken[name], reference_language, references[name])
        if _is_scorable(prompt):
            prompts.append(prompt)
    return tuple(prompts)


def _is_scorable(prompt: Prompt) -> bool:
    pair = (prompt.text, prompt.reference)
    english = texts("en").get(prompt.name, "").lower()
    return (
        prompt.path.exists()
        and SHORTEST_S <= prompt.duration_s <= LONGEST_S
        and all(len(text.split()) >= FEWEST_WORDS for text in pair)
        and not any(mark in text for text in pair for mark in FRAGMENT_MARKS)
        and not any(LOST_LETTER.search(text) for text in pair)
        and not any(word in english for word in JARGON)
    )


def draw(
    language: str,
    reference_language: str,
    count: int,
    seed: int,
    candidates: Sequence[Prompt] | None = None,
) -> list[Prompt]:
    """`count` different sentences, of the whole pool unless told otherwise; the same ones for the
    same seed."""
    candidates = list(candidates or pool(language, reference_language))
    random.Random(seed).shuffle(candidates)
    chosen, seen = [], set()
    for prompt in candidates:
        # Some sentences were recorded twice under two names.
        if prompt.reference not in seen:
            chosen.append(prompt)
            seen.add(prompt.reference)
        if len(chosen) == count:
            return chosen
    raise ValueError(f"only {len(chosen)} prompts for {language} to {reference_language}")


def decode(path: Path, *, offset_s: float = 0.0, duration_s: float | None = None) -> np.ndarray:
    """An audio file as 48 kHz mono s16; raw G.722 by its suffix."""
    # Here, so that the texts can be had without it.
    import numpy as np

    command = ["ffmpeg", "-nostdin", "-loglevel", "error"]
    if path.suffix == ".g722":
        command += ["-f", "g722"]
    command += ["-ss", str(offset_s), "-i", str(path)]
    if duration_s is not None:
        command += ["-t", str(duration_s)]
    command += ["-f", "s16le", "-ac", "1", "-ar", str(SAMPLE_RATE), "-"]
    raw = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    return np.frombuffer(raw, dtype=np.int16)
