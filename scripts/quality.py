"""How good is an interpretation? Recorded prompts of one language are put into one long file and
sent through `dragoman interpret`; the table that is printed is Markdown, for the README.

understood   word error rate of the transcript against the printed text of the recording
translated   chrF of the translation against the printed text of the parallel recording
audible      word error rate of what an independent recogniser hears in the synthesised speech
             against the translation
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import wave
from pathlib import Path

import numpy as np

from harness import prompts, recogniser, scoring, signals
from harness.server import program

PAIRS = ("en-es", "es-en", "fr-en", "it-en", "ru-en", "en-fr", "en-it")
GAP_S = 2.0


def interpret(clips: list[prompts.Prompt], folder: Path) -> tuple[list[dict], np.ndarray]:
    """The utterances of all clips in one file, and the speech that was made of them."""
    source, out = folder / "source.wav", folder / "out.wav"
    with wave.open(str(source), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(prompts.SAMPLE_RATE)
        for clip in clips:
            file.writeframes(clip.samples().tobytes())
            file.writeframes(signals.silence(GAP_S).tobytes())
    command = [
        *(program(), "interpret", source, "--json", "--out", out),
        *("--from", clips[0].language, "--to", clips[0].reference_language),
    ]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(result.stdout)["utterances"], prompts.decode(out)


def by_clip(clips: list[prompts.Prompt], utterances: list[dict], field: str) -> list[str]:
    """The text of each clip: of those utterances whose middle lies within it."""
    texts, start_ms = [], 0.0
    for clip in clips:
        end_ms = start_ms + (clip.duration_s + GAP_S) * 1000
        texts.append(
            " ".join(
                utterance[field]
                for utterance in utterances
                if start_ms <= (utterance["start_ms"] + utterance["end_ms"]) / 2 < end_ms
            )
        )
        start_ms = end_ms
    return texts


def measure(source: str, target: str, count: int, seed: int) -> str:
    available = len({prompt.reference for prompt in prompts.pool(source, target)})
    clips = prompts.draw(source, target, min(count, available), seed)
    with tempfile.TemporaryDirectory() as folder:
        utterances, speech = interpret(clips, Path(folder))
    transcripts = by_clip(clips, utterances, "transcript")
    translations = by_clip(clips, utterances, "translation")
    understood = scoring.word_error_rate([clip.text for clip in clips], transcripts, source)
    translated = scoring.chrf([clip.reference for clip in clips], translations, target)
    heard = recogniser.transcribe(speech, target)
    audible = scoring.word_error_rate([" ".join(translations)], [heard], target)
    return (
        f"| {source} to {target} | {len(clips)} | {understood:.1%} | {translated:.1f} "
        f"| {audible:.1%} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", nargs="+", default=PAIRS, help="such as en-es")
    parser.add_argument("--clips", type=int, default=24, help="recordings for each pair")
    parser.add_argument("--seed", type=int, default=1, help="draws other recordings")
    options = parser.parse_args()
    print("| languages | recordings | understood (WER) | translated (chrF) | audible (WER) |")
    print("|---|---|---|---|---|")
    for pair in options.pairs:
        source, target = pair.split("-")
        print(measure(source, target, options.clips, options.seed), flush=True)


if __name__ == "__main__":
    main()
