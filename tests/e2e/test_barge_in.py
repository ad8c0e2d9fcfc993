"""People cut in and leave as they please: whoever speaks while they hear an interpretation hears it
more softly, and what somebody leaves half said is called off."""

import asyncio

import numpy as np

from harness import prompts
from harness.events import UTTERANCE_ENDS
from harness.peer import SAMPLE_RATE, Peer, rtp_after
from harness.server import Api

# Speech of this length is interpreted long enough to talk into.
LONG_S = 5.0
WINDOW = SAMPLE_RATE // 5
# The configured gain is 0.35; a codec and a window that begins early leave it between these.
SOFTER = (0.2, 0.55)
AS_LOUD = (0.8, 1.25)
QUIET_S = 1.5
TIMEOUT_S = 60
# As often as the sentence is said until one text of it was interpreted both ways.
TURNS = 8


def levels(samples: np.ndarray) -> np.ndarray:
    """Root mean square of each window."""
    windows = samples[: len(samples) // WINDOW * WINDOW].astype(np.float64).reshape(-1, WINDOW)
    return np.sqrt((windows**2).mean(axis=1))


async def talk(server, said: prompts.Prompt, answer: prompts.Prompt):
    """The same sentence over and over; every other time its listener speaks as soon as they hear
    it. Where the cuts fall differs by milliseconds and may change a comma of what is recognised, so
    it goes on until one text was interpreted both ways. Gives both interpretations as they were
    heard, and where in the second the listener's own speech was noticed."""
    alone, interrupted, translations = {}, {}, {}
    async with Api(server) as api, Peer() as speaker, Peer() as listener:
        room = await api.create_room(["en", "es"], original_gain=0.0)
        speaker_token = await api.token(room, "speaker", "en")
        listener_token = await api.token(room, "listener", "es")
        async with api.events(room, listener_token) as events:
            await speaker.connect(api.answerer(room, speaker_token))
            await listener.connect(api.answerer(room, listener_token))
            for turn in range(TURNS):
                interrupts = turn % 2 == 1
                before = len(events.events)
                await speaker.say(said.samples())
                spoken = await events.wait_for(
                    lambda event: event.type == "utterance.spoken"
                    and event["listener"] == "listener",
                    after=before,
                    timeout_s=TIMEOUT_S,
                )
                if interrupts:
                    await listener.say(answer.samples())
                await listener.hear_out(quiet_s=QUIET_S, timeout_s=TIMEOUT_S)
                told = events.events[before:]
                text, translation = (
                    next(
                        event["text"]
                        for event in told
                        if event.type == kind and event["speaker"] == "speaker"
                    )
                    for kind in ("utterance.transcript", "utterance.translation")
                )
                assert translations.setdefault(text, translation) == translation, (
                    "the same words are translated the same way"
                )
                heard = listener.log.heard(spoken["rtp_timestamp"])
                if interrupts:
                    noticed = next(
                        event
                        for event in told
                        if event.type == "utterance.started" and event["speaker"] == "listener"
                    )
                    packet = min(
                        listener.log.arrived,
                        key=lambda packet, noticed=noticed: abs(packet.arrived - noticed.arrived),
                    )
                    at = rtp_after(packet.rtp_timestamp, spoken["rtp_timestamp"])
                    interrupted[text] = (heard, at)
                else:
                    alone[text] = heard
                if text in alone and text in interrupted:
                    break
            await api.delete_room(room)
    assert text in alone and text in interrupted, f"never recognised twice alike: {translations}"
    return alone[text], *interrupted[text]


def test_an_interpretation_goes_down_while_its_listener_speaks(server):
    said = next(p for p in prompts.pool("en", "es") if p.is_one_breath and p.duration_s > LONG_S)
    answer = next(p for p in prompts.pool("es", "en") if p.is_one_breath and p.duration_s > 3)
    alone, interrupted, noticed = asyncio.run(talk(server, said, answer))

    plain, softened = levels(alone), levels(interrupted)
    count = min(len(plain), len(softened))
    plain, softened = plain[:count], softened[:count]
    loud = plain > plain.max() / 4
    at = noticed // WINDOW
    windows = np.arange(count)
    # Loudness needs a few windows to go down and is not judged meanwhile.
    before, after = loud & (windows < at - 1), loud & (windows > at + 1)
    assert after.sum() >= 3, f"the interpretation was over before {said.name} could be talked into"
    ratio = np.median(softened[after] / plain[after])
    print(f"noticed {noticed / SAMPLE_RATE:.2f} s into it; from then on {ratio:.2f} as loud")
    assert SOFTER[0] < ratio < SOFTER[1]
    if before.any():
        assert AS_LOUD[0] < np.median(softened[before] / plain[before]) < AS_LOUD[1]


async def leave_half_way(server, said: prompts.Prompt) -> dict:
    """The end of an utterance whose speaker hangs up while they speak."""
    async with Api(server) as api, Peer() as listener:
        room = await api.create_room(["en", "es"])
        listener_token = await api.token(room, "listener", "es")
        async with api.events(room, listener_token) as events:
            await listener.connect(api.answerer(room, listener_token))
            async with Peer() as speaker:
                await speaker.connect(api.answerer(room, await api.token(room, "speaker", "en")))
                saying = asyncio.ensure_future(speaker.say(said.samples()))
                started = await events.wait_for(
                    lambda event: event.type == "utterance.started", timeout_s=TIMEOUT_S
                )
                saying.cancel()
            end = await events.wait_for(
                lambda event: event.type in UTTERANCE_ENDS
                and event["utterance"] == started["utterance"],
                timeout_s=TIMEOUT_S,
            )
            await api.delete_room(room)
    return end.body


def test_what_somebody_leaves_half_said_is_called_off(server):
    said = next(p for p in prompts.pool("en", "es") if p.is_one_breath and p.duration_s > LONG_S)
    end = asyncio.run(leave_half_way(server, said))
    assert (end["type"], end["reason"], end["speaker"]) == (
        "utterance.dropped",
        "cancelled",
        "speaker",
    )
