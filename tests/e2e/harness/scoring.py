"""Word error rate and chrF on text that is normalised first: case, punctuation, accents and the
spelling of numbers are not what these tests are about."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import jiwer
import sacrebleu
from num2words import num2words


def normalise(text: str, language: str) -> str:
    """Lower case, numbers in words, no accents, no punctuation, single spaces."""
    text = re.sub(
        r"\d+", lambda match: f" {num2words(int(match[0]), lang=language)} ", text.lower()
    )
    letters = unicodedata.normalize("NFD", text)
    letters = "".join(c for c in letters if not unicodedata.combining(c))
    # An apostrophe joins ("don't"), everything else that is no letter separates.
    letters = re.sub("['\u2019]", "", letters)
    return " ".join(re.sub(r"[^\w]+|_", " ", letters).split())


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str], language: str) -> float:
    """Over the whole corpus, not the mean of sentences; 0.2 is one word in five."""
    return jiwer.wer(
        [normalise(text, language) for text in references],
        [normalise(text, language) for text in hypotheses],
    )


def chrf(references: Sequence[str], hypotheses: Sequence[str], language: str) -> float:
    """chrF2 of the corpus, 0 to 100."""
    score = sacrebleu.corpus_chrf(
        [normalise(text, language) for text in hypotheses],
        [[normalise(text, language) for text in references]],
    )
    return score.score
