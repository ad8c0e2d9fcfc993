"""A call between two people who share no language: real recordings in, an independent WebRTC stack
and an independent recogniser on the other end."""

import asyncio
import statistics

import pytest

from harness import call, prompts, scoring

CLIPS = 7
LOWEST_CHRF = 45
HIGHEST_WORD_ERROR_RATE = 0.20
LAG_TOLERANCE_MS = 40

DIRECTIONS = [("en", "es"), ("es", "en")]


@pytest.fixture(scope="module", params=DIRECTIONS, ids=lambda pair: f"{pair[0]}-to-{pair[1]}")
def a_call(request: pytest.FixtureRequest, server, seed) -> call.Call:
    source, target = request.param
    drawn = prompts.draw(source, target, CLIPS, seed)
    held = asyncio.run(call.hold(server, drawn))
    for turn in held.turns:
        print(turn)
    return held


def test_what_is_heard_says_what_the_prompt_says(a_call):
    references = [turn.prompt.reference for turn in a_call.turns]
    heard = [turn.heard_text for turn in a_call.turns]
    language = a_call.turns[0].prompt.reference_language
    score = scoring.chrf(references, heard, language)
    print(f"chrF of what was heard against the reference translation: {score:.1f}")
    assert score >= LOWEST_CHRF, _side_by_side(references, heard)


def test_what_is_heard_is_what_the_server_says_it_translated(a_call):
    translations = [turn.translation for turn in a_call.turns]
    heard = [turn.heard_text for turn in a_call.turns]
    language = a_call.turns[0].prompt.reference_language
    rate = scoring.word_error_rate(translations, heard, language)
    print(f"word error rate of what was heard against the translation event: {rate:.1%}")
    assert rate < HIGHEST_WORD_ERROR_RATE, _side_by_side(translations, heard)


def test_events_are_numbered_without_gaps(a_call):
    numbers = [event["seq"] for event in a_call.events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    times = [event["time_ms"] for event in a_call.events]
    assert times == sorted(times)


def test_the_story_of_each_utterance_is_told_in_order(a_call):
    stories = {}
    for event in a_call.events:
        if event.type.startswith("utterance."):
            stories.setdefault(event["utterance"], []).append(event)
    spoken = 0
    for utterance, story in stories.items():
        told = [event.type.removeprefix("utterance.") for event in story]
        told = [step for step in told if step != "partial"]
        assert {event["speaker"] for event in story} == {"speaker"}
        if told == ["started", "dropped"] and story[-1]["reason"] == "no_speech":
            # A click or a breath: begun on suspicion, and taken back.
            continue
        assert told == ["started", "transcript", "translation", "spoken"], (utterance, story)
        assert story[-1]["listener"] == "listener"
        spoken += 1
    assert spoken >= CLIPS


def test_each_event_names_the_language_of_its_text(a_call):
    prompt = a_call.turns[0].prompt
    languages = {
        "utterance.transcript": prompt.language,
        "utterance.translation": prompt.reference_language,
        "utterance.spoken": prompt.reference_language,
    }
    for event in a_call.events:
        if event.type in languages:
            assert event["language"] == languages[event.type], event.body


def test_the_stages_of_the_trace_add_up_to_the_lag(a_call):
    stages = ("endpoint", "queue", "transcribe", "translate", "speak", "playout")
    for lag in a_call.lags():
        parts = {stage: lag.event["trace"][f"{stage}_ms"] for stage in stages}
        assert sum(parts.values()) == pytest.approx(lag.told_ms, abs=2), parts


def test_the_lag_in_the_event_agrees_with_the_packets_the_client_saw(a_call):
    """Both ends count from the packet with the last voiced sample to the first translated packet;
    the client matches them by RTP timestamp."""
    lags = a_call.lags()
    assert len(lags) >= CLIPS
    differences = [
        f"{lag.event['utterance']}: the event says {lag.told_ms:.0f} ms, the packets "
        f"{lag.seen_ms:.0f} ms, of which {lag.doubt_ms:.0f} ms may be the client's own"
        for lag in lags
        if abs(lag.told_ms - lag.seen_ms) > LAG_TOLERANCE_MS + lag.doubt_ms
    ]
    assert not differences
    print(f"median lag {statistics.median(lag.seen_ms for lag in lags):.0f} ms")


def test_spoken_is_told_when_its_packet_arrives(a_call):
    """An event that comes long after its packet is of no use to a caption."""
    for event in a_call.events:
        if event.type == "utterance.spoken":
            packet = a_call.listener.arrived_at(event["rtp_timestamp"])
            assert abs(event.arrived - packet) < 0.5


def test_the_listener_hears_the_original_under_its_interpretation_when_asked(server, seed):
    prompt = prompts.draw("en", "es", 1, seed)[0]
    held = asyncio.run(call.hold(server, [prompt], original_gain=0.5))
    first_spoken = next(event for event in held.events if event.type == "utterance.spoken")
    before = held.listener.heard(until=first_spoken["rtp_timestamp"])
    assert abs(before).max() > 1_000, "the original is not to be heard"


def _side_by_side(references, hypotheses) -> str:
    return "\n".join(
        f"expected {reference!r}\n   heard {hypothesis!r}"
        for reference, hypothesis in zip(references, hypotheses, strict=True)
    )
