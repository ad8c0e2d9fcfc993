"""One whole call: one participant speaks prompts, the other listens, and everything that was said,
heard and told is kept for the assertions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness import recogniser
from harness.events import Event, EventStream
from harness.peer import Answerer, PacketLog, Peer
from harness.prompts import Prompt
from harness.server import Api, Server

# Quiet before the first prompt and after each interpretation, so that nothing overlaps.
PAUSE_S = 1.0
# Longer than the pauses within an interpretation of two sentences.
HEARD_OUT_S = 1.5
# The slowest machine that this is to pass on still says a sentence within this time.
SENTENCE_TIMEOUT_S = 60


@dataclass(frozen=True)
class Turn:
    """One prompt and what became of it. A prompt with a pause inside is several utterances."""

    prompt: Prompt
    events: list[Event]
    heard: np.ndarray

    def text(self, event_type: str) -> str:
        return " ".join(event["text"] for event in self.events if event.type == event_type)

    @property
    def transcript(self) -> str:
        return self.text("utterance.transcript")

    @property
    def translation(self) -> str:
        return self.text("utterance.translation")

    @property
    def spoken(self) -> list[Event]:
        return [event for event in self.events if event.type == "utterance.spoken"]

    @cached_property
    def heard_text(self) -> str:
        """What an independent recogniser makes of the received track."""
        return recogniser.transcribe(self.heard, self.prompt.reference_language)

    def __str__(self) -> str:
        return (
            f"{self.prompt.name}: said {self.prompt.text!r}, understood {self.transcript!r}, "
            f"translated {self.translation!r}, reference {self.prompt.reference!r}"
        )


@dataclass(frozen=True)
class Lag:
    """How late one utterance was heard, by both ends' clocks."""

    event: Event
    # What the event says.
    told_ms: float
    # Between our own packets: from sending the last voiced one to the arrival of the first
    # translated one.
    seen_ms: float
    # How late this program itself was when it looked at the clock for `seen_ms`.
    doubt_ms: float


class Canary:
    """Wakes every few milliseconds and keeps when it was late: what this program measures cannot be
    truer than its own event loop is on time."""

    PERIOD_S = 0.005

    def __init__(self) -> None:
        self._late: list[tuple[float, float]] = []
        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        while True:
            due = time.monotonic() + self.PERIOD_S
            await asyncio.sleep(self.PERIOD_S)
            woke = time.monotonic()
            if woke - due > self.PERIOD_S:
                self._late.append((due, woke))

    def stop(self) -> None:
        self._task.cancel()

    def lateness_ms(self, at: float) -> float:
        """The longest hold-up that `at` falls into or follows directly."""
        hold_ups = [woke - due for due, woke in self._late if due <= at <= woke + self.PERIOD_S]
        return max(hold_ups, default=0.0) * 1000


@dataclass(frozen=True)
class Call:
    """A call that is over."""

    turns: list[Turn]
    events: list[Event]
    speaker: PacketLog
    listener: PacketLog
    canary: Canary

    def lags(self) -> list[Lag]:
        """One for each spoken utterance, in order."""
        last_voiced = {
            event["utterance"]: event["last_voiced_rtp"]
            for event in self.events
            if event.type == "utterance.transcript"
        }
        lags = []
        for event in self.events:
            if event.type == "utterance.spoken":
                sent = self.speaker.sent_at(last_voiced[event["utterance"]])
                arrived = self.listener.arrived_at(event["rtp_timestamp"])
                doubt_ms = self.canary.lateness_ms(sent) + self.canary.lateness_ms(arrived)
                seen_ms = (arrived - sent) * 1000
                lags.append(Lag(event, event["trace"]["lag_ms"], seen_ms, doubt_ms))
        return lags


async def hold(
    server: Server,
    prompts: Sequence[Prompt],
    *,
    original_gain: float = 0.0,
    route: Callable[[Answerer], Answerer] = lambda answerer: answerer,
) -> Call:
    """Speaks the prompts one after the other, each after the one before was interpreted. `route`
    may lead both peers another way to the server."""
    source, target = prompts[0].language, prompts[0].reference_language
    canary = Canary()
    async with Api(server) as api, Peer() as speaker, Peer() as listener:
        room = await api.create_room([source, target], original_gain=original_gain)
        speaker_token = await api.token(room, "speaker", source)
        listener_token = await api.token(room, "listener", target)
        async with api.events(room, listener_token) as events:
            await speaker.connect(route(api.answerer(room, speaker_token)))
            await listener.connect(route(api.answerer(room, listener_token)))
            await asyncio.sleep(PAUSE_S)
            starts = [await _take_turn(speaker, listener, events, prompt) for prompt in prompts]
            told = list(events.events)
            await api.delete_room(room)
    canary.stop()
    return Call(
        turns=_split_into_turns(prompts, starts, told, listener.log),
        events=told,
        speaker=speaker.log,
        listener=listener.log,
        canary=canary,
    )


async def _take_turn(speaker: Peer, listener: Peer, events: EventStream, prompt: Prompt) -> int:
    """Returns how many events had been told when the prompt began."""
    before = len(events.events)
    await speaker.say(prompt.samples())
    await events.wait_for(
        lambda event: event.type == "utterance.started",
        after=before,
        timeout_s=SENTENCE_TIMEOUT_S,
    )
    await events.settle(quiet_s=PAUSE_S, timeout_s=SENTENCE_TIMEOUT_S)
    # `spoken` marks the first packet of an interpretation: let it be heard to its end.
    await listener.hear_out(quiet_s=HEARD_OUT_S, timeout_s=SENTENCE_TIMEOUT_S)
    return before


def _split_into_turns(
    prompts: Sequence[Prompt], starts: Sequence[int], told: list[Event], listener: PacketLog
) -> list[Turn]:
    turns = []
    for prompt, start, end in zip(prompts, starts, [*starts[1:], len(told)], strict=True):
        turns.append((prompt, told[start:end]))
    firsts = [_first_spoken_rtp(events) for _, events in turns]
    result = []
    for index, (prompt, events) in enumerate(turns):
        following = [first for first in firsts[index + 1 :] if first is not None]
        heard = np.zeros(0, dtype=np.int16)
        if firsts[index] is not None:
            heard = listener.heard(firsts[index], following[0] if following else None)
        result.append(Turn(prompt, events, heard))
    return result


def _first_spoken_rtp(events: Sequence[Event]) -> int | None:
    spoken = [event["rtp_timestamp"] for event in events if event.type == "utterance.spoken"]
    return spoken[0] if spoken else None
