"""Calls over a lossy wireless network: 5 % of all datagrams lost in short bursts, jitter up to
40 ms, some reordered, some twice, in both directions of both peers.

A handful of sentences tells whether a call holds, not how many words losses cost: that is measured
on many more in virtual time (media-server/tests/bad_networks.rs)."""

import asyncio

from harness import call, prompts, scoring
from harness.relay import Relay, ResilientEncoder

CLIPS = 2
DIRECTIONS = [("en", "es"), ("es", "en")]
# What a call without losses may have (test_call.py), and five points for the losses; ten where a
# word of a short sentence that was misheard is as much among so few.
HIGHEST_WORD_ERROR_RATE = 0.20 + 0.05
LOWEST_CHRF = 45 - 10
# One word in three: among so few, a name or a number misheard is several points.
HIGHEST_TRANSCRIPT_ERROR_RATE = 1 / 3


def test_a_call_over_a_lossy_network_works_both_ways(server, seed, monkeypatch):
    monkeypatch.setattr("aiortc.codecs.OpusEncoder", ResilientEncoder)
    drawn = [prompts.draw(source, target, CLIPS, seed) for source, target in DIRECTIONS]

    with Relay(server.udp_ports, preset="wifi_lossy", seed=seed) as relay:
        held = [asyncio.run(call.hold(server, clips, route=relay.through)) for clips in drawn]
    print(relay.report)
    assert relay.report["clients"] >= 4
    for way in ("to_server", "to_clients"):
        counts = relay.report[way]
        assert 0.02 < counts["lost"] / counts["sent"] < 0.08
        assert counts["reordered"] > 0 and counts["duplicated"] > 0

    turns = [turn for one in held for turn in one.turns]
    for turn in turns:
        print(turn)
        assert turn.spoken, f"{turn.prompt.name} was never interpreted"
    understood = _mean_error_rate(
        (turn.prompt.text, turn.transcript, turn.prompt.language) for turn in turns
    )
    heard = _mean_error_rate(
        (turn.translation, turn.heard_text, turn.prompt.reference_language) for turn in turns
    )
    chrf = [
        scoring.chrf([turn.prompt.reference], [turn.heard_text], turn.prompt.reference_language)
        for turn in turns
    ]
    mean_chrf = sum(chrf) / len(chrf)
    print(f"word error rate: server {understood:.1%}, listener {heard:.1%}; chrF {mean_chrf:.1f}")
    assert understood < HIGHEST_TRANSCRIPT_ERROR_RATE
    assert heard < HIGHEST_WORD_ERROR_RATE
    assert mean_chrf >= LOWEST_CHRF


def _mean_error_rate(texts) -> float:
    """Over references and hypotheses in several languages; each counts by its words."""
    errors = words = 0
    for reference, hypothesis, language in texts:
        count = len(scoring.normalise(reference, language).split())
        errors += scoring.word_error_rate([reference], [hypothesis], language) * count
        words += count
    return errors / words
