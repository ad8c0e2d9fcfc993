"""faster-whisper's whole call on WAV files, to set beside `examples/transcribe.rs`.

int8, beam 1, one thread, language given, after one warming call; wall and CPU time.

    OMP_NUM_THREADS=1 python scripts/reference/whisper_speed.py [--language es] FILE.wav...
"""

import argparse
import time
from pathlib import Path

from faster_whisper import WhisperModel
from whisper_clips import decode, model_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--language")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    model = WhisperModel(str(model_folder()), device="cpu", compute_type="int8", cpu_threads=1)
    for path in arguments.files:
        samples = decode(path)
        best_wall = best_cpu = float("inf")
        for _ in range(arguments.repeat + 1):
            wall, cpu = time.perf_counter(), time.process_time()
            segments, _ = model.transcribe(
                samples,
                language=arguments.language,
                beam_size=1,
                condition_on_previous_text=False,
            )
            text = "".join(segment.text for segment in segments).strip()
            best_wall = min(best_wall, time.perf_counter() - wall)
            best_cpu = min(best_cpu, time.process_time() - cpu)
        print(f"{path}: wall {1000 * best_wall:.0f} ms, CPU {1000 * best_cpu:.0f} ms")
        print(f"  {text}")


if __name__ == "__main__":
    main()
