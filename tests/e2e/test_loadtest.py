"""The load test, held against an independent WebRTC stack, and when things go wrong."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import time
import wave
from pathlib import Path

import pytest

from harness import call, prompts
from harness.server import Server, end_with_parent, program

CLIPS = 4
# A packet's time: both clients look at the same packets of the same server.
TOLERANCE_MS = 20
# What two runs on two busy cores may differ by although nothing has changed.
NOISE = 0.5
# Of the words that a voice says, the recogniser may understand otherwise.
MISHEARD = 0.35
TIMEOUT_S = 120

MET, NOT_MET, COULD_NOT_RUN = 0, 1, 3


def command(server: str, key: str, *arguments: str) -> list[str]:
    loadtest = str(program().with_name("dragoman-loadtest"))
    return [loadtest, "calls", "--server", server, "--api-key", key, *arguments]


def run(server: str, key: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(server, key, *arguments), capture_output=True, text=True, timeout=TIMEOUT_S
    )


@pytest.fixture(scope="module")
def drawn(seed) -> list[prompts.Prompt]:
    pool = [prompt for prompt in prompts.pool("en", "es") if prompt.is_one_breath]
    return prompts.draw("en", "es", CLIPS, seed, pool)


@pytest.fixture(scope="module")
def corpus(drawn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same sentences for the load test."""
    folder = tmp_path_factory.mktemp("corpus")
    sentences = []
    for number, prompt in enumerate(drawn):
        name = f"{number}.wav"
        with wave.open(str(folder / name), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(prompts.SAMPLE_RATE)
            file.writeframes(prompt.samples().tobytes())
        translations = {prompt.reference_language: prompt.reference}
        sentence = {"path": name, "language": "en", "transcript": prompt.text}
        sentences.append({**sentence, "translations": translations})
    (folder / "corpus.json").write_text(json.dumps({"sentences": sentences}))
    return folder


def test_it_measures_what_an_independent_client_measures(server, drawn, corpus, tmp_path):
    out = tmp_path / "report"
    slo = "lag_p50<1ms,missing<100%"
    load = ("--corpus", str(corpus), "--hold", "32s", "--think", "2s..3s", "--slo", slo)
    ended = run(server.url, server.api_key, *load, "--listen-back", "--out", str(out), "--json")
    assert ended.returncode == NOT_MET, ended.stderr
    report = json.loads(ended.stdout)
    outcomes = [outcome for outcome in report["outcomes"] if outcome["missing"] is None]
    assert len(outcomes) >= 3, ended.stdout
    assert report["generator"]["valid"]
    assert [verdict["met"] for verdict in report["verdicts"]] == [False, True]
    assert {"report.html", "report.json", "lag.hlog"} <= {path.name for path in out.iterdir()}

    total = report["total"]
    assert total["listened"] == len(outcomes)
    misheard = total["listened_wrong_words"] / total["listened_words"]
    print(f"listened back to {len(outcomes)}: {misheard:.0%} of the words misheard")
    assert misheard < MISHEARD, [(each["translation"], each["listened"]) for each in outcomes]

    lags = asyncio.run(call.hold(server, drawn)).lags()
    # Beyond what the server told of itself, both clients saw the same.
    ours = statistics.median(each["heard_lag_ms"] - each["traced_lag_ms"] for each in outcomes)
    theirs = statistics.median(lag.seen_ms - lag.told_ms for lag in lags)
    print(f"seen beyond what was told: {ours:.1f} ms here, {theirs:.1f} ms by aiortc")
    assert ours == pytest.approx(theirs, abs=TOLERANCE_MS)
    ours = statistics.median(each["heard_lag_ms"] for each in outcomes)
    theirs = statistics.median(lag.seen_ms for lag in lags)
    print(f"median lag: {ours:.0f} ms here, {theirs:.0f} ms by aiortc")
    assert ours == pytest.approx(theirs, rel=NOISE)


def test_a_server_that_dies_leaves_a_partial_report(corpus, tmp_path):
    out = tmp_path / "report"
    doomed = Server(log=tmp_path / "dragoman.log")
    load = ("--corpus", str(corpus), "--hold", "90s", "--think", "1s..2s", "--out", str(out))
    process = subprocess.Popen(
        command(doomed.url, doomed.api_key, *load),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=end_with_parent,
    )
    time.sleep(14)
    doomed.kill()
    stdout, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == COULD_NOT_RUN
    assert "CUT SHORT    every session failed" in stdout
    report = json.loads((out / "report.json").read_text())
    assert report["cut_short"] and report["errors"]
    assert any(outcome["missing"] is None for outcome in report["outcomes"]), stdout


def test_what_cannot_run_says_why(server, corpus, tmp_path):
    known = ("--corpus", str(corpus))
    nobody = run("http://127.0.0.1:9", server.api_key, *known)
    assert nobody.returncode == COULD_NOT_RUN
    assert "is the server running there?" in nobody.stderr

    stranger = run(server.url, "0" * 32, *known)
    assert stranger.returncode == COULD_NOT_RUN
    assert "401" in stranger.stderr

    nowhere = run(server.url, server.api_key, "--corpus", str(tmp_path / "nowhere"))
    assert nowhere.returncode == COULD_NOT_RUN
    assert "a corpus is a folder" in nowhere.stderr

    listed = {"path": "gone.wav", "language": "en", "transcript": "Gone."}
    (tmp_path / "corpus.json").write_text(json.dumps({"sentences": [listed]}))
    gone = run(server.url, server.api_key, "--corpus", str(tmp_path))
    assert gone.returncode == COULD_NOT_RUN
    assert "gone.wav" in gone.stderr

    nonsense = run(server.url, server.api_key, *known, "--slo", "lag<fast")
    assert nonsense.returncode == COULD_NOT_RUN
    assert "lag_p95<2.5s" in nonsense.stderr
