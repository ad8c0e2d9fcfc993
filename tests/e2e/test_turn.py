"""A caller whose network lets only the TURN server through, with the credentials that the server
makes and a real coturn that checks them."""

from __future__ import annotations

import asyncio
import re
import time

from aiortc import RTCIceServer

from harness.peer import Peer
from harness.server import Api

PACKETS = 25


async def until(what: str, is_so, timeout_s: float = 15) -> None:
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not is_so():
        assert asyncio.get_running_loop().time() < deadline, f"{what} did not come"
        await asyncio.sleep(0.02)


async def ice_servers(api: Api, room: str, token: str) -> list[dict]:
    reply = await api.request("GET", f"/v1/rooms/{room}/ice-servers", bearer=token)
    assert reply.status == 200, reply.text
    return reply.json["iceServers"]


def candidates(sdp: str) -> list[str]:
    """Their types."""
    return re.findall(r"^a=candidate:.* typ (\w+)", sdp, re.M)


def test_a_peer_that_reaches_nothing_but_the_turn_server_is_in_the_call(server, turn, tmp_path):
    async def join():
        async with Api(server) as api:
            room = await api.create_room(["en"])
            token = await api.token(room, "alice", "en")
            (told,) = await ice_servers(api, room, token)
            offers, links = [], []

            async def answer(offer: str) -> str:
                offers.append(offer)
                reply = await api.offer(room, token, offer)
                assert reply.status == 201, reply.text
                links.append(reply.headers["link"])
                return reply.text

            async with Peer(relays=[RTCIceServer(**told)]) as peer:
                await peer.connect(answer)
                await until("packets", lambda: len(peer.log.arrived) >= PACKETS)
            await api.delete_room(room)
            return told, offers[0], links[0]

    with turn.running(tmp_path) as coturn:
        told, offer, link = asyncio.run(join())
        log = coturn.log
    assert set(candidates(offer)) == {"relay"}, "no other way was offered"
    assert f"username=<{told['username']}>" in log and "ALLOCATE processed, success" in log
    expiry, _, identity = told["username"].partition(":")
    assert identity == "alice" and 14_300 < int(expiry) - time.time() <= 14_400
    # The header says the same; its credentials are made anew and may be a second older.
    parsed = re.fullmatch(
        r'<(\S+)>; rel="ice-server"; username="(\d+):alice"; credential="([^"]+)"; '
        r'credential-type="password"',
        link,
    )
    assert parsed, link
    assert told["urls"] == [turn.url] == [parsed[1]]
    assert abs(int(parsed[2]) - int(expiry)) <= 60
    assert parsed[3] == told["credential"] or parsed[2] != expiry


def test_a_credential_that_was_made_up_gets_no_relay(server, turn, tmp_path):
    async def offer():
        async with Api(server) as api:
            room = await api.create_room(["en"])
            (told,) = await ice_servers(api, room, await api.token(room, "alice", "en"))
            expiry, _, _ = told["username"].partition(":")
            told["username"] = f"{int(expiry) + 1}:alice"
            async with Peer(relays=[RTCIceServer(**told)]) as peer:
                sdp = await peer.offer()
            await api.delete_room(room)
            return sdp

    with turn.running(tmp_path) as coturn:
        sdp = asyncio.run(offer())
        log = coturn.log
    assert candidates(sdp) == []
    assert "Cannot find credentials" in log
