"""Rooms as such: what a conference may be made of, and rooms that nobody is in."""

from __future__ import annotations

import asyncio
import uuid

from harness.peer import Peer
from harness.server import Api

# The server looks once a second.
SWEPT_S = 5


async def create(api: Api, server, **fields):
    name = f"e2e-{uuid.uuid4().hex[:12]}"
    body = {"name": name, "kind": "conference", **fields}
    return name, await api.request("POST", "/v1/rooms", bearer=server.api_key, json=body)


async def until_gone(api: Api, server, room: str) -> None:
    for _ in range(SWEPT_S * 10):
        reply = await api.request("GET", f"/v1/rooms/{room}", bearer=server.api_key)
        if reply.status == 404:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{room} is still there")


def test_a_conference_needs_channels_that_this_server_can_speak(server):
    async def ask():
        async with Api(server) as api:
            return [
                (await create(api, server, languages=languages))[1]
                for languages in ([], ["es", "la"])
            ]

    none, latin = asyncio.run(ask())
    assert none.status == 422 and "a conference needs languages" in none.json["detail"]
    assert latin.status == 422 and "la cannot be a channel" in latin.json["detail"]
    possible = latin.json["detail"].rsplit("expected some of ", 1)[1].split(", ")
    assert "en" in possible and "es" in possible and "la" not in possible


def test_only_channels_of_the_room_are_recorded_or_take_relay(server):
    both = ["en", "es"]
    wrong = [
        ({"languages": both, "record": ["fr"]}, "fr"),
        ({"languages": both, "relay": {"es": "fr"}}, "fr"),
        ({"kind": "call", "record": ["es"]}, "a call has none"),
    ]

    async def ask():
        async with Api(server) as api:
            refused = [(await create(api, server, **options))[1] for options, _ in wrong]
            right = {"languages": both, "record": ["es"], "relay": {"es": "en"}}
            return refused, (await create(api, server, **right))[1]

    refused, right = asyncio.run(ask())
    for reply, (options, names) in zip(refused, wrong, strict=True):
        assert reply.status == 422 and names in reply.json["detail"], options
    assert right.status == 201, right.text
    assert (right.json["record"], right.json["relay"]) == (["es"], {"es": "en"})


def test_a_room_that_nobody_joins_ends_and_so_does_one_that_everybody_has_left(server):
    async def live():
        async with Api(server) as api:
            lonely, reply = await create(api, server, languages=["en", "es"], empty_timeout_s=1)
            assert reply.status == 201, reply.text
            await until_gone(api, server, lonely)

            timeouts = {"empty_timeout_s": 60, "departure_timeout_s": 1}
            left, reply = await create(api, server, kind="call", **timeouts)
            assert reply.status == 201, reply.text
            async with Peer() as peer:
                await peer.connect(api.answerer(left, await api.token(left, "anna", "en")))
                await asyncio.sleep(3)
                reply = await api.request("GET", f"/v1/rooms/{left}", bearer=server.api_key)
                assert reply.status == 200, "somebody is in it"
            await until_gone(api, server, left)

    asyncio.run(live())
