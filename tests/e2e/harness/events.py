"""The room's event stream as a client sees it: each event with the time of its arrival."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

UTTERANCE_ENDS = ("utterance.spoken", "utterance.dropped")


@dataclass(frozen=True)
class Event:
    """One message; `arrived` is `time.monotonic()`, `arrived_ms` the wall clock."""

    arrived: float
    arrived_ms: float
    body: dict

    @property
    def type(self) -> str:
        return self.body["type"]

    def __getitem__(self, key: str):
        return self.body[key]


class EventStream:
    """Collects events in the background from a WebSocket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.events: list[Event] = []
        self._socket = socket
        self._news = asyncio.Event()
        self._reader = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            if message.type == aiohttp.WSMsgType.TEXT:
                now_ms = time.time() * 1000
                self.events.append(Event(time.monotonic(), now_ms, message.json()))
                self._news.set()

    async def wait_for(
        self, wanted: Callable[[Event], bool], *, timeout_s: float, after: int = 0
    ) -> Event:
        """The first wanted event, past or future, that comes after the first `after` ones."""
        seen = after

        async def search() -> Event:
            nonlocal seen
            while True:
                self._news.clear()
                while seen < len(self.events):
                    seen += 1
                    if wanted(self.events[seen - 1]):
                        return self.events[seen - 1]
                await self._news.wait()

        try:
            return await asyncio.wait_for(search(), timeout_s)
        except TimeoutError:
            told = [event.type for event in self.events]
            raise TimeoutError(f"no such event within {timeout_s} s; there were {told}") from None

    async def settle(self, *, quiet_s: float, timeout_s: float) -> None:
        """Waits until every utterance that started is spoken or dropped and nothing has been told
        for a while."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            last = self.events[-1].arrived if self.events else 0.0
            if not self.open_utterances() and time.monotonic() - last >= quiet_s:
                return
            await asyncio.sleep(0.1)
        raise TimeoutError(f"untold to their end after {timeout_s} s: {self.open_utterances()}")

    async def fall_quiet(self, *, quiet_s: float, timeout_s: float) -> None:
        """Waits until nothing has been told for a while, whatever is still on its way."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.events and time.monotonic() - self.events[-1].arrived >= quiet_s:
                return
            await asyncio.sleep(0.1)
        raise TimeoutError(f"still told of something after {timeout_s} s")

    def open_utterances(self) -> set[str]:
        started = {event["utterance"] for event in self.of_type("utterance.started")}
        ended = {event["utterance"] for event in self.of_type(*UTTERANCE_ENDS)}
        return started - ended

    def of_type(self, *types: str) -> list[Event]:
        return [event for event in self.events if event.type in types]

    def utterance(self, utterance: str) -> list[Event]:
        """The story of one utterance, in the order it was told."""
        return [event for event in self.events if event.body.get("utterance") == utterance]

    async def closed(self) -> int | None:
        """Waits until the server has closed the stream and gives the code it closed it with."""
        await self._reader
        return self._socket.close_code

    async def ended(self, *, timeout_s: float) -> None:
        """Returns when the server, or its death, has ended the stream."""
        await asyncio.wait_for(asyncio.shield(self._reader), timeout_s)

    async def close(self) -> None:
        self._reader.cancel()
        await self._socket.close()
