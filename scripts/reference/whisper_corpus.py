"""Writes the corpus of the word-error test: printed texts and what faster-whisper hears.

The reference is faster-whisper 1.2.1 on ctranslate2 4.8.5, float32, beam 1, 30 s window, default
temperature fallback, on the weights that the model store fetches.

    python scripts/reference/whisper_corpus.py > inference/tests/data/whisper/corpus.json
"""

import json
import sys

from faster_whisper import WhisperModel
from whisper_clips import VOICES, corpus, decode, model_folder, resolve

CLIPS_PER_LANGUAGE = 16


def main() -> None:
    model = WhisperModel(str(model_folder()), device="cpu", compute_type="float32", cpu_threads=1)
    clips = []
    for language in VOICES:
        for clip, printed in corpus(language, CLIPS_PER_LANGUAGE):
            segments, _ = model.transcribe(
                decode(resolve(clip)),
                language=language,
                beam_size=1,
                condition_on_previous_text=False,
            )
            heard = "".join(segment.text for segment in segments).strip()
            print(f"{clip}\n  {printed}\n  {heard}", file=sys.stderr)
            clips.append(
                {"clip": clip, "language": language, "printed": printed, "reference": heard}
            )
    json.dump({"clips": clips}, sys.stdout, indent=1, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
