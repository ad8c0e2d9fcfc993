"""Times the models beside their peers, in turns in one run, on the same weights and recordings.

recogniser   Whisper base, one thread: the encoder and a whole recognition, against CTranslate2
             (int8) with a window as short as ours, and against faster-whisper as it is called
translator   Qwen2.5-Coder-1.5B (the same GGUF): a token read and a token written, against llama.cpp
             on as many threads
voice        Kokoro-82M, one thread: a first clause, against ONNX Runtime (int8)
chain        from the end of speech to the first translated sound: `dragoman interpret` against a
             chain of these peers with short windows, a kept prefix, and clauses spoken at once

A ratio below 1 says that ours is quicker. Spread is the range of the ratios of single rounds.
"""

from __future__ import annotations

import argparse
import datetime
import html
import json
import os
import platform
import statistics
import tempfile
import time
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import ours
import theirs

# The sentences are parts of one recording, each said in one breath: a pause would make it two.
CUTS_S = ((0.2, 2.4), (5.3, 7.8), (8.0, 11.0))
CLAUSE = ("es", "Buenos días a todos, gracias.", "ef_dora")
INSTRUCTION = (
    "<|im_start|>system\nYou are a professional interpreter. Translate the user's message from "
    "English to Spanish. Output only the translation.<|im_end|>\n"
)
ANSWER = 24
SENTENCE = "This is only a measurement of how quickly a sentence is translated into Spanish."


def clips(folder: Path) -> list[tuple[Path, np.ndarray]]:
    """Sentences as files and as samples, 16 kHz mono."""
    with wave.open(str(ours.MODELS / "sample-jfk" / "jfk.wav")) as file:
        data = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    cut = []
    for index, (start, end) in enumerate(CUTS_S):
        samples = data[int(start * theirs.RATE) : int(end * theirs.RATE)]
        path = folder / f"sentence-{index}.wav"
        with wave.open(str(path), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(theirs.RATE)
            out.writeframes(samples.tobytes())
        cut.append((path, samples.astype(np.float32) / 32768))
    return cut


def clock(work: Callable[[], object], repeats: int = 3) -> float:
    """Milliseconds, the median of a few."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


class Report:
    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.rows: list[dict] = []

    def row(self, name: str, peer: str, unit: str, pairs: list[tuple[float, float]]) -> None:
        """Pairs of our time and theirs."""
        ratios = [mine / other for mine, other in pairs]
        row = {
            "name": name,
            "peer": peer,
            "unit": unit,
            "ours": statistics.median(mine for mine, _ in pairs),
            "theirs": statistics.median(other for _, other in pairs),
            "ratio": statistics.median(ratios),
            "spread": [min(ratios), max(ratios)],
        }
        self.rows.append(row)
        low, high = row["spread"]
        print(
            f"  {name:42}{row['ours']:9.1f} {unit:6} {peer:24}{row['theirs']:9.1f} {unit:6}"
            f" ratio {row['ratio']:.2f} ({low:.2f} to {high:.2f})",
            flush=True,
        )


def recogniser(report: Report, cut: list[tuple[Path, np.ndarray]]) -> theirs.CTranslate2:
    short, whole = theirs.CTranslate2(), theirs.FasterWhisper()
    encodes, shorts, wholes = [], [], []
    for _ in range(report.rounds):
        for path, samples in cut:
            mine = ours.transcribe(path)
            window = short.window(samples)
            encodes.append((mine["encode"], clock(lambda w=window: short.encode(w))))
            shorts.append((mine["whole"], clock(lambda s=samples: short.transcribe(s))))
            wholes.append((mine["whole"], clock(lambda s=samples: whole.transcribe(s), 1)))
    report.row("whisper base: encoder, short window", "CTranslate2 int8", "ms", encodes)
    report.row("whisper base: a sentence", "CTranslate2 int8, short", "ms", shorts)
    report.row("whisper base: a sentence", "faster-whisper int8", "ms", wholes)
    return short


def translator(report: Report) -> theirs.LlamaCpp:
    peer = None
    for threads in (1, 2):
        peer = theirs.LlamaCpp(threads)
        turn = f"<|im_start|>user\n{SENTENCE}<|im_end|>\n<|im_start|>assistant\n"
        peer.complete(INSTRUCTION + turn, ANSWER)
        write, read = [], []
        for index in range(report.rounds):
            mine = ours.tokens_per_second(threads)
            # Another sentence each time: else there would be nothing to read.
            said = turn.replace("only", f"only the {index}th")
            timings = peer.complete(INSTRUCTION + said, ANSWER)
            write.append((1000 / mine["write"], 1000 / timings["predicted_per_second"]))
            read.append((1000 / mine["read"], 1000 / timings["prompt_per_second"]))
        suffix = f"{threads} thread" + ("s" if threads > 1 else "")
        report.row(f"qwen2.5 1.5B: a token written, {suffix}", "llama.cpp", "ms", write)
        report.row(f"qwen2.5 1.5B: a token read, {suffix}", "llama.cpp", "ms", read)
    return peer


def voice(report: Report) -> None:
    language, text, name = CLAUSE
    peer = theirs.KokoroOrt(1)
    peer.speak(language, text, name)
    clauses, firsts = [], []
    for _ in range(report.rounds):
        mine = ours.speak(language, text, name, 1)
        other = clock(lambda: peer.speak(language, text, name), 1)
        clauses.append((mine["total"] * 1000, other))
        firsts.append((mine["first"] * 1000, other))
    report.row(f"kokoro: a clause of {mine['audio']:.1f} s", "ONNX Runtime int8", "ms", clauses)
    report.row("kokoro: its first samples", "ONNX Runtime int8", "ms", firsts)


def chain(
    report: Report,
    cut: list[tuple[Path, np.ndarray]],
    short: theirs.CTranslate2,
    language_model: theirs.LlamaCpp,
) -> list[dict]:
    peers = theirs.Chain(short, language_model, theirs.KokoroOrt(2))
    peers.interpret(cut[0][1], INSTRUCTION, CLAUSE[2])
    pairs, texts = [], []
    for _ in range(report.rounds):
        for path, samples in cut:
            other = peers.interpret(samples, INSTRUCTION, CLAUSE[2])
            [mine, *_] = ours.interpret(path, "en", "es")["utterances"]
            trace = mine["trace"]
            lag = trace["transcribe_ms"] + trace["translate_ms"] + trace["speak_ms"]
            pairs.append((lag, other["first_sound"] * 1000))
            texts.append({"ours": mine["translation"], "theirs": other["translation"]})
    report.row("chain: end of speech to first sound", "the peers' chain", "ms", pairs)
    return texts


def page(report: dict) -> str:
    """One self-contained page with a pair of bars for each row."""
    blocks = []
    for row in report["rows"]:
        longest = max(row["ours"], row["theirs"])
        bars = "".join(
            f'<div class="bar"><span>{html.escape(who)}</span>'
            f'<i class="{kind}" style="width:{value / longest * 60:.1f}%"></i>'
            f"<b>{value:.1f} {row['unit']}</b></div>"
            for who, kind, value in (
                ("dragoman", "ours", row["ours"]),
                (row["peer"], "theirs", row["theirs"]),
            )
        )
        low, high = row["spread"]
        blocks.append(
            f"<section><h2>{html.escape(row['name'])}</h2>{bars}"
            f"<p>ratio {row['ratio']:.2f}, single rounds {low:.2f} to {high:.2f}</p></section>"
        )
    style = (
        ":root{color-scheme:light dark}body{font:16px system-ui;margin:2rem auto;max-width:48rem;"
        "padding:0 1rem}h1{font-size:1.4rem}h2{font-size:1rem;margin:1.5rem 0 .3rem}"
        ".bar{display:flex;align-items:center;gap:.5rem;margin:.2rem 0}"
        ".bar span{flex:0 0 12rem}.bar i{height:1.1rem;border-radius:3px}"
        ".ours{background:#2a78d6}.theirs{background:#8a8a8a}p{margin:.2rem 0;opacity:.75}"
    )
    when, where = html.escape(report["date"]), html.escape(report["machine"])
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Dragoman beside its peers</title><style>{style}</style>"
        f"<h1>Dragoman beside its peers</h1><p>{when}, {where}. Shorter is better.</p>"
        + "".join(blocks)
        + "</html>\n"
    )


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores of {names[0] if names else platform.machine()}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side (default 5)")
    parser.add_argument("--only", choices=["recogniser", "translator", "voice", "chain"])
    parser.add_argument(
        "--out", type=Path, default=Path("target/bench-peers"), help="folder of the report"
    )
    options = parser.parse_args()
    report = Report(options.rounds)
    wants = lambda part: options.only in (None, part)  # noqa: E731
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{machine()}, load {load}, {options.rounds} rounds")
    texts: list[dict] = []
    with tempfile.TemporaryDirectory() as folder:
        cut = clips(Path(folder))
        short = recogniser(report, cut) if wants("recogniser") else None
        language_model = translator(report) if wants("translator") else None
        if wants("voice"):
            voice(report)
        if wants("chain"):
            short = short or theirs.CTranslate2()
            texts = chain(report, cut, short, language_model or theirs.LlamaCpp(2))
    options.out.mkdir(parents=True, exist_ok=True)
    whole = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "rounds": options.rounds,
        "rows": report.rows,
        "translations": texts,
    }
    (options.out / "report.json").write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
    (options.out / "report.html").write_text(page(whole))
    print(f"report: {options.out / 'report.html'}")


if __name__ == "__main__":
    main()
