"""Sessions from an independent stack: one or two receiving sections, offers in the variants that
are met in the field, ICE restarts over HTTP, and how long it takes until media flows."""

from __future__ import annotations

import asyncio
import re

import aioice
import pytest

from harness.peer import Peer
from harness.server import Api

FRAGMENT = "application/trickle-ice-sdpfrag"
PACKETS = 25


async def until(what: str, is_so, timeout_s: float = 15) -> None:
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not is_so():
        assert asyncio.get_running_loop().time() < deadline, f"{what} did not come"
        await asyncio.sleep(0.02)


def joined(server, change) -> None:
    """A peer whose offer was changed on its way joins and hears packets."""

    async def join():
        async with Api(server) as api, Peer() as peer:
            room = await api.create_room(["en", "es"])
            answer = api.answerer(room, await api.token(room, "alice", "en"))
            await peer.connect(lambda offer: answer(change(offer)))
            await until("packets", lambda: len(peer.log.arrived) >= PACKETS)
            await api.delete_room(room)

    asyncio.run(join())


VARIANTS = {
    "payload-type-96-and-no-fmtp": lambda sdp: sdp,
    "stereo": lambda sdp: sdp.replace(
        "a=rtpmap:96 opus/48000/2\r\n",
        "a=rtpmap:96 opus/48000/2\r\na=fmtp:96 stereo=1;sprop-stereo=1\r\n",
    ),
    "lf-alone": lambda sdp: sdp.replace("\r\n", "\n"),
    "no-candidates": lambda sdp: re.sub(r"a=candidate:.*\r\n", "", sdp),
    "mdns-names-alone": lambda sdp: re.sub(
        r"(a=candidate:\S+ \d \S+ \d+) \S+", r"\1 3f1c7a56-0a70.local", sdp
    ),
    "setup-active": lambda sdp: sdp.replace("a=setup:actpass", "a=setup:active"),
    "setup-passive": lambda sdp: sdp.replace("a=setup:actpass", "a=setup:passive"),
    "no-bundle": lambda sdp: re.sub(r"a=group:BUNDLE.*\r\n", "", sdp),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_offer_in_a_variant_of_the_field_gets_a_call(server, variant):
    joined(server, VARIANTS[variant])


def test_video_beside_audio_is_rejected_and_the_audio_is_answered(server):
    video = (
        "m=video 9 UDP/TLS/RTP/SAVPF 97\r\nc=IN IP4 0.0.0.0\r\na=mid:v\r\na=sendrecv\r\n"
        "a=rtcp-mux\r\na=rtpmap:97 VP8/90000\r\n"
    )

    async def post():
        async with Api(server) as api, Peer() as peer:
            room = await api.create_room(["en", "es"])
            token = await api.token(room, "alice", "en")
            offer = (await peer.offer()).replace("BUNDLE 0", "BUNDLE 0 v") + video
            reply = await api.offer(room, token, offer)
            await api.delete_room(room)
            return reply

    reply = asyncio.run(post())
    assert reply.status == 201, reply.text
    sections = re.findall(r"^m=(\w+) (\d+)", reply.text, re.M)
    assert sections == [("audio", "9"), ("video", "0")]
    assert "a=group:BUNDLE 0\r\n" in reply.text


def test_a_session_with_two_receiving_sections_gets_two_tracks(server):
    async def hold():
        async with Api(server) as api, Peer(sections=2) as peer, Peer() as other:
            room = await api.create_room(["en"])
            await peer.connect(api.answerer(room, await api.token(room, "alice", "en")))
            await other.connect(api.answerer(room, await api.token(room, "bob", "en")))
            await until(
                "packets on both tracks",
                lambda: [len(log.arrived) >= PACKETS for log in peer.logs] == [True, True],
            )
            await api.delete_room(room)
            return peer.logs

    interpretation, originals = asyncio.run(hold())
    for log in (interpretation, originals):
        steps = {
            later.rtp_timestamp - earlier.rtp_timestamp
            for earlier, later in zip(log.arrived, log.arrived[1:], strict=False)
        }
        assert steps <= {960, 960 - 2**32}, steps


def test_media_flows_soon_after_the_offer(server):
    async def join():
        async with Api(server) as api:
            room = await api.create_room(["en", "es"])
            times = []
            async with api.events(room, await api.token(room, "observer", "en")) as events:
                for name in "abcde":
                    async with Peer() as peer:
                        before = len(events.events)
                        await peer.connect(api.answerer(room, await api.token(room, name, "en")))
                        event = await events.wait_for(
                            lambda event: event.type == "participant.joined",
                            after=before,
                            timeout_s=10,
                        )
                        times.append(event["connect_ms"])
                    await events.wait_for(
                        lambda event: event.type == "participant.left", after=before, timeout_s=20
                    )
            await api.delete_room(room)
            return sorted(times)

    times = asyncio.run(join())
    print(f"connect_ms: {[round(time) for time in times]}, median {times[2]:.0f} (aim: 300)")
    # The aim is for a machine that does nothing else.
    assert times[0] < 1000, times


class Restarted:
    """A second ICE connection under the DTLS of a peer that has one already, as a client makes when
    it changes its network."""

    def __init__(self, peer: Peer) -> None:
        self._transport = peer.ice_transport
        self._old = self._transport._connection
        self._new = aioice.Connection(ice_controlling=True)

    async def fragment(self) -> str:
        await self._new.gather_candidates()
        lines = [
            f"a=ice-ufrag:{self._new.local_username}",
            f"a=ice-pwd:{self._new.local_password}",
            "m=audio 9 UDP/TLS/RTP/SAVPF 0",
            "a=mid:0",
            *(f"a=candidate:{each.to_sdp()}" for each in self._new.local_candidates),
        ]
        return "\r\n".join(lines) + "\r\n"

    async def take(self, fragment: str) -> None:
        def value(name: str) -> str:
            return re.search(rf"^a={name}:(.*?)\r?$", fragment, re.M)[1]

        self._new.remote_username = value("ice-ufrag")
        self._new.remote_password = value("ice-pwd")
        for line in re.findall(r"^a=candidate:(.*?)\r?$", fragment, re.M):
            await self._new.add_remote_candidate(aioice.Candidate.from_sdp(line))
        await self._new.add_remote_candidate(None)
        await self._new.connect()
        self._transport._connection = self._new
        self._transport._recv, self._transport._send = self._new.recv, self._new.send
        # Wakes whoever waits for the old path, by a datagram of no protocol.
        await self._old._queue.put((b"\xff", 1))

    async def close(self) -> None:
        """Ends the old path; its owner waits for that when it closes."""
        await self._old.close()


def test_an_ice_restart_by_patch_leaves_the_call_as_it_was(server):
    async def restart():
        async with Api(server) as api, Peer() as peer:
            room = await api.create_room(["en", "es"])
            token = await api.token(room, "alice", "en")
            session = {}

            async def answerer(offer: str) -> str:
                reply = await api.offer(room, token, offer)
                session.update(reply.headers)
                return reply.text

            async def patch(fragment: str, if_match: str | None, kind: str = FRAGMENT):
                headers = {"Content-Type": kind}
                if if_match is not None:
                    headers["If-Match"] = if_match
                return await api.request(
                    "PATCH", session["location"], bearer=token, data=fragment, headers=headers
                )

            await peer.connect(answerer)
            await until("packets", lambda: len(peer.log.arrived) >= PACKETS)
            again = Restarted(peer)
            fragment = await again.fragment()
            refused = [
                (await patch(fragment, None)).status,
                (await patch(fragment, '"of-yore"')).status,
                (await patch(fragment, session["etag"], "application/sdp")).status,
                (await patch("a=mid:0\r\n", "*")).status,
                (await patch("nonsense", session["etag"])).status,
            ]
            candidate = "a=mid:0\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n"
            trickled = await patch(candidate, session["etag"])
            before = peer.log.arrived[-1]
            reply = await patch(fragment, session["etag"])
            stale = await patch(candidate, session["etag"])
            await again.take(reply.text)
            count = len(peer.log.arrived)
            await until("packets by the new path", lambda: len(peer.log.arrived) >= count + PACKETS)
            after = peer.log.arrived[count + PACKETS - 1]
            await again.close()
            await api.delete_room(room)
            return refused, trickled, reply, stale, session, before, after

    refused, trickled, reply, stale, session, before, after = asyncio.run(restart())
    assert refused == [428, 412, 415, 422, 400]
    assert (trickled.status, trickled.body) == (204, b"") and "etag" not in trickled.headers
    assert reply.status == 200 and reply.headers["content-type"] == FRAGMENT
    assert reply.headers["etag"] != session["etag"]
    assert "a=ice-ufrag:" in reply.text and "a=candidate:" in reply.text
    assert stale.status == 412
    assert (after.rtp_timestamp - before.rtp_timestamp) % 2**32 % 960 == 0, "one track all along"
