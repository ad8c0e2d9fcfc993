"""How late is an interpretation, and which stage eats the time?

Nine recorded sentences of 3 to 6 seconds are spoken in real time into a call on this machine, once
for each tier of translation. The lag counts from sending the packet with the last voiced sample to
the arrival of the first translated packet, by the client's own clock, so it holds the hangover and
everything after it. Then the recogniser alone runs beside faster-whisper on the same recordings.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import statistics
import subprocess
import tempfile
import time
import wave
from pathlib import Path

from faster_whisper import WhisperModel

from harness import call, prompts, recogniser
from harness.server import Server

CLIPS = 9
SHORTEST_S, LONGEST_S = 3.0, 6.0
STAGES = ("endpoint", "queue", "transcribe", "translate", "speak", "playout")
# What was done in the pause that `endpoint` counts already.
HIDDEN = "hidden"

# Name of the tier, what selects it, and the median that is wanted of it.
TIERS = (
    ("apertium", ("--translators", "apertium"), 2_000),
    ("language model", (), 3_500),
)
WANTED_RATIO = 0.35
REPEATS = 5
# What the example says of each call: "clip.wav: 4.67 s in 312.4 ms: mel ...".
WHOLE_CALL = re.compile(r" s in ([\d.]+) ms")
# The recogniser is compared on a sentence of about this length.
SENTENCE_S = 5.0


def fixed_clips() -> list[prompts.Prompt]:
    """Every n-th of the prompts in question by name, so that a run can be compared with the next:
    one sentence without a pause inside, which would make it two utterances."""
    candidates = [
        prompt
        for prompt in prompts.pool("en", "es")
        if SHORTEST_S <= prompt.duration_s <= LONGEST_S and prompt.is_one_breath
    ]
    step = len(candidates) // CLIPS
    return candidates[::step][:CLIPS]


def measure_lag(arguments: tuple[str, ...], clips: list[prompts.Prompt]) -> list[dict]:
    """One row for each utterance of a call in which the clips are spoken."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(*arguments, log=Path(folder) / "server.log")
        try:
            held = asyncio.run(call.hold(server, clips))
        finally:
            server.stop()
    translators = {
        event["utterance"]: event["translator"]
        for event in held.events
        if event.type == "utterance.translation"
    }
    seen_ms = {lag.event["utterance"]: lag.seen_ms for lag in held.lags()}
    rows = []
    for turn in held.turns:
        for event in turn.spoken:
            rows.append(
                {
                    "clip": turn.prompt.name,
                    "translator": translators[event["utterance"]],
                    "speech_ms": event["trace"]["speech_ms"],
                    **{f"{stage}_ms": event["trace"][f"{stage}_ms"] for stage in (HIDDEN, *STAGES)},
                    "told_ms": event["trace"]["lag_ms"],
                    "lag_ms": seen_ms[event["utterance"]],
                    "translation": turn.translation,
                }
            )
    return rows


def print_lag(tier: str, wanted_ms: float, rows: list[dict]) -> dict:
    columns = ("speech", HIDDEN, *STAGES, "told", "lag")
    print(f"\n{tier}: milliseconds from the last voiced sample to the first translated packet")
    print(f"  {'clip':26}" + "".join(f"{column:>11}" for column in columns) + "  translator")
    for row in rows:
        cells = "".join(f"{row[f'{column}_ms']:11.0f}" for column in columns)
        print(f"  {row['clip']:26}{cells}  {row['translator']}")
    medians = {column: statistics.median(row[f"{column}_ms"] for row in rows) for column in columns}
    print(f"  {'median':26}" + "".join(f"{medians[column]:11.0f}" for column in columns))
    slowest = max(STAGES, key=lambda stage: medians[stage])
    verdict = "met" if medians["lag"] <= wanted_ms else f"missed; most of it is {slowest}"
    print(f"  median lag {medians['lag']:.0f} ms, at most {wanted_ms} ms wanted: {verdict}")
    return medians


def compare_recognisers(clips: list[prompts.Prompt]) -> dict:
    """Our recogniser and faster-whisper on one sentence, in turns, on one thread each."""
    clip = min(clips, key=lambda prompt: abs(prompt.duration_s - SENTENCE_S))
    print(f"\nrecogniser, one thread, {clip.duration_s:.1f} s of speech ({clip.name})")
    model = WhisperModel(
        str(recogniser.models() / "whisper-base"),
        device="cpu",
        compute_type="int8",
        cpu_threads=1,
        local_files_only=True,
    )
    samples = recogniser.to_16k(clip.samples(), prompts.SAMPLE_RATE)

    def theirs() -> float:
        start = time.perf_counter()
        segments, _ = model.transcribe(samples, language="en", beam_size=1)
        text = " ".join(segment.text.strip() for segment in segments)
        elapsed = (time.perf_counter() - start) * 1000
        assert text
        return elapsed

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{clip.name}.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            file.writeframes((samples * 32767).astype("<i2").tobytes())
        theirs()
        # In turns, so that whatever else the machine does falls on both.
        pairs = [(ours(path), theirs()) for _ in range(REPEATS)]
    ours_ms = statistics.median(mine for mine, _ in pairs)
    theirs_ms = statistics.median(other for _, other in pairs)
    ratio = ours_ms / theirs_ms
    verdict = "met" if ratio <= WANTED_RATIO else "missed"
    print(f"  dragoman {ours_ms:.0f} ms, faster-whisper (int8, beam 1) {theirs_ms:.0f} ms")
    print(f"  ratio {ratio:.2f}, at most {WANTED_RATIO} wanted: {verdict}")
    return {"dragoman_ms": ours_ms, "faster_whisper_ms": theirs_ms, "ratio": ratio}


def ours(path: Path) -> float:
    """Milliseconds of one whole transcription: the second of two, as theirs was warmed up too."""
    program = Path(os.environ["CARGO_TARGET_DIR"]) / "release" / "examples" / "transcribe"
    result = subprocess.run(
        [program, recogniser.models() / "whisper-base", "--language", "en", "--repeat", "2", path],
        env={**os.environ, "RAYON_NUM_THREADS": "1", "CANDLE_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    return float(WHOLE_CALL.findall(result.stdout)[-1])


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores of {names[0] if names else platform.machine()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--only", choices=["lag", "recogniser"], help="one of the two parts")
    options = parser.parse_args()

    clips = fixed_clips()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{machine()}, load {load}; clips: {', '.join(clip.name for clip in clips)}")
    report = {"machine": machine(), "clips": [clip.name for clip in clips]}
    if options.only != "recogniser":
        for tier, arguments, wanted_ms in TIERS:
            rows = measure_lag(arguments, clips)
            report[tier] = {"medians": print_lag(tier, wanted_ms, rows), "rows": rows}
    if options.only != "lag":
        report["recogniser"] = compare_recognisers(clips)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
