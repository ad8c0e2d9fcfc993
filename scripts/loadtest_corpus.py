"""Makes the recordings that the load test speaks: loadtest_corpus.py FOLDER.

They are whole sentences of Debian's Asterisk prompts in G.722 (wideband), in five languages, each
with its text, the end of its last voiced sample and, where the same prompt exists in another
language, with that one as its reference translation. The folder gets WAV files and their list,
corpus.json.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import wave
from array import array
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "e2e"))

from harness import prompts

# Each with the language of its reference: English has the most parallel texts.
LANGUAGES = {"en": "es", "es": "en", "fr": "en", "it": "en", "ru": "en"}
SENTENCES = 40
# The same recordings in the same order everywhere.
SEED = 20
RATE = 16_000
# The voice is found by energy: windows of 10 ms that are less than 30 dB below the loud ones.
WINDOW = RATE // 100
BELOW_SPEECH = 10 ** (-30 / 10)
LOUD_PERCENTILE = 95


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    sentences = []
    for language, reference_language in LANGUAGES.items():
        candidates = list(prompts.pool(language, reference_language))
        random.Random(SEED).shuffle(candidates)
        # What has a pause inside could become two utterances.
        chosen = [prompt for prompt in candidates if prompt.is_one_breath][:SENTENCES]
        for prompt in chosen:
            path = Path(language) / f"{prompt.name.replace('/', '-')}.wav"
            decode(prompt.path, folder / path)
            sentences.append(
                {
                    "path": str(path),
                    "language": language,
                    "transcript": prompt.text,
                    "translations": {reference_language: prompt.reference},
                    "last_voiced_ms": last_voiced_ms(folder / path),
                }
            )
        print(f"{language}: {len(chosen)} sentences", file=sys.stderr)
    listing = json.dumps({"sentences": sentences}, ensure_ascii=False, indent=1)
    # Last, so that a list means a whole corpus.
    (folder / "corpus.json").write_text(listing, encoding="utf-8")


def decode(recording: Path, wav: Path) -> None:
    wav.parent.mkdir(parents=True, exist_ok=True)
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-f", "g722", "-i", str(recording)]
    subprocess.run([*command, "-ar", str(RATE), "-ac", "1", str(wav)], check=True)


def last_voiced_ms(wav: Path) -> float:
    """Where the last voiced sample ends: the last one in a loud window that is itself as loud."""
    with wave.open(str(wav)) as reader:
        samples = array("h", reader.readframes(reader.getnframes()))
    windows = [samples[begin : begin + WINDOW] for begin in range(0, len(samples), WINDOW)]
    powers = [sum(sample * sample for sample in window) / len(window) for window in windows]
    loud = sorted(powers)[(len(powers) - 1) * LOUD_PERCENTILE // 100]
    threshold = loud * BELOW_SPEECH
    last = max(index for index, power in enumerate(powers) if power > threshold)
    within = max(index for index, sample in enumerate(windows[last]) if sample * sample > threshold)
    return round(1000 * (last * WINDOW + within + 1) / RATE, 3)


if __name__ == "__main__":
    main()
