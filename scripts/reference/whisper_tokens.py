"""Writes the token ids that the parity test of the recogniser expects.

faster-whisper 1.2.1 on ctranslate2 4.8.5, float32, beam 1, temperature 0, 30 s window, on the
weights that the model store fetches; each clip with and without timestamps.

The samples are continued by silence to 30 s before the call, as OpenAI's implementation does. Left
to itself faster-whisper continues the finished spectrogram with zeros, which is no silence.

    pip install faster-whisper==1.2.1 ctranslate2==4.8.5
    python scripts/reference/whisper_tokens.py > inference/tests/data/whisper/tokens.json
"""

import json
import sys

import numpy as np
from faster_whisper import WhisperModel
from whisper_clips import SAMPLE_RATE, decode, model_folder, resolve

CLIPS = [
    ("sample-jfk/jfk.wav", "en"),
    ("en_US_f_Allison/tt-monkeysintro.g722", "en"),
    ("es_MX_f_Allison/agent-alreadyon.g722", "es"),
    ("es_MX_f_Allison/conf-getpin.g722", "es"),
    ("fr_CA_f_June/agent-alreadyon.g722", "fr"),
    ("fr_CA_f_June/vm-options.g722", "fr"),
    ("it_IT_m_Carlo/vm-options.g722", "it"),
    ("ru_RU_f_IvrvoiceRU/vm-options.g722", "ru"),
]


def tokens(model: WhisperModel, samples, language: str, timestamps: bool) -> list[int]:
    window = np.zeros(30 * SAMPLE_RATE, dtype=np.float32)
    window[: len(samples)] = samples
    segments, _ = model.transcribe(
        window,
        language=language,
        beam_size=1,
        temperature=0.0,
        condition_on_previous_text=False,
        without_timestamps=not timestamps,
    )
    # With timestamps a second window may begin where the last piece ended; ours is the first.
    segments = [segment for segment in segments if segment.seek == 0]
    return [token for segment in segments for token in segment.tokens]


def main() -> None:
    model = WhisperModel(str(model_folder()), device="cpu", compute_type="float32", cpu_threads=1)
    clips = []
    for clip, language in CLIPS:
        path = resolve(clip)
        if not path.exists():
            sys.exit(f"{path} is missing: install the asterisk-core-sounds packages")
        samples = decode(path)
        print(f"{clip}: {len(samples) / 16000:.2f} s", file=sys.stderr)
        clips.append(
            {
                "clip": clip,
                "language": language,
                "samples": len(samples),
                "tokens": tokens(model, samples, language, False),
                "timed_tokens": tokens(model, samples, language, True),
            }
        )
    json.dump({"clips": clips}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
