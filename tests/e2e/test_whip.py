"""Speaking by WHIP and listening by WHEP, from an independent stack that offers both ways."""

from __future__ import annotations

import asyncio
import re

from harness import signals
from harness.peer import Peer
from harness.server import Api, Reply


async def offer(api: Api, path: str, token: str, sdp: str) -> Reply:
    headers = {"Content-Type": "application/sdp", "Accept": "application/sdp"}
    return await api.request("POST", path, bearer=token, data=sdp, headers=headers)


def directions(sdp: str) -> list[str]:
    return re.findall(r"^a=(sendrecv|sendonly|recvonly|inactive)\r?$", sdp, re.M)


def test_who_publishes_by_whip_is_heard_by_whep_and_not_the_other_way(server, seed):
    async def hold():
        async with Api(server) as api, Peer() as speaker, Peer() as listener:
            room = await api.create_room(["en"])
            speaking = await api.token(room, "alice", "en")
            listening = await api.token(room, "bob", "en")
            replies = {}

            def answerer(door: str, token: str):
                async def answer(sdp: str) -> str:
                    reply = await offer(api, f"/v1/rooms/{room}/{door}", token, sdp)
                    assert reply.status == 201, reply.text
                    replies[door] = reply
                    return reply.text

                return answer

            await speaker.connect(answerer("whip", speaking))
            await listener.connect(answerer("whep?original_gain=1", listening))
            _, tune = signals.music(3, seed=seed)
            listener.microphone.play(tune)
            await speaker.say(tune)
            await asyncio.sleep(0.5)
            whip, whep = replies["whip"], replies["whep?original_gain=1"]
            ends = [
                (await api.request("DELETE", whip.headers["location"], bearer=listening)).status,
                (await api.request("GET", whep.headers["location"], bearer=listening)).status,
                (await api.request("DELETE", whip.headers["location"], bearer=speaking)).status,
                (await api.request("DELETE", whep.headers["location"], bearer=listening)).status,
                (await api.request("GET", whep.headers["location"], bearer=listening)).status,
            ]
            await api.delete_room(room)
            return whip, whep, speaker, listener, ends

    whip, whep, speaker, listener, ends = asyncio.run(hold())
    assert directions(whip.text) == ["recvonly"] and directions(whep.text) == ["sendonly"]
    assert re.fullmatch(r"/v1/rooms/[\w-]+/whip/[0-9a-f]{32}", whip.headers["location"])
    assert re.fullmatch(r"/v1/rooms/[\w-]+/whep/[0-9a-f]{32}", whep.headers["location"])
    assert whip.headers["etag"] != whep.headers["etag"]
    assert listener.last_audible > 0, "the listener hears who publishes"
    assert speaker.log.arrived == [], "who publishes is sent nothing"
    assert ends == [403, 204, 200, 200, 404]
