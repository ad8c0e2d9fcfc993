"""Tokens between us and LiveKit's own server SDK, both ways."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from livekit import api as livekit

from harness.peer import Peer
from harness.server import Api

# The name of a server's only key, and the key's part of their "API key and secret".
KEY = "default"


def token(server, identity: str, grants: livekit.VideoGrants, **attributes: str) -> str:
    return (
        livekit.AccessToken(KEY, server.api_key)
        .with_identity(identity)
        .with_name(identity.title())
        .with_metadata('{"theirs": true}')
        .with_attributes(attributes)
        .with_ttl(timedelta(minutes=5))
        .with_grants(grants)
        .to_jwt()
    )


def test_a_token_of_their_sdk_joins_a_call_as_what_it_says(server):
    async def join():
        async with Api(server) as api, Peer() as peer, Peer() as other:
            room = await api.create_room(["en", "es"])
            joins = livekit.VideoGrants(room_join=True, room=room)
            ana = token(server, "ana", joins, language="es", hear="en")
            await peer.connect(api.answerer(room, ana))
            shown = await api.request("GET", f"/v1/rooms/{room}/participants", bearer=ana)
            silent = token(server, "ben", joins)
            refused = await api.offer(room, silent, await other.offer())
            await api.delete_room(room)
            return shown.json, refused

    (ana,), refused = asyncio.run(join())
    assert (ana["identity"], ana["name"]) == ("ana", "Ana")
    assert (ana["language"], ana["hear"]) == ("es", "en")
    assert refused.status == 422 and "attributes.language" in refused.json["detail"]


def test_their_grants_open_the_doors_that_they_name(server):
    async def knock():
        async with Api(server) as api:
            room = await api.create_room(["en"])
            lists = token(server, "office", livekit.VideoGrants(room_list=True))
            admin = token(server, "office", livekit.VideoGrants(room_admin=True, room=room))
            forged = livekit.AccessToken(KEY, "f" * 64).with_grants(
                livekit.VideoGrants(room_list=True)
            )
            asked = [
                ("GET", "/v1/rooms", lists),
                ("GET", f"/v1/rooms/{room}/participants", lists),
                ("GET", f"/v1/rooms/{room}/participants", admin),
                ("POST", f"/v1/rooms/{room}/tokens", admin),
                ("GET", "/v1/rooms", forged.to_jwt()),
                ("DELETE", f"/v1/rooms/{room}", admin),
            ]
            body = {"identity": "eve", "language": "en"}
            return [
                (
                    await api.request(
                        method, path, bearer=who, **({"json": body} if method == "POST" else {})
                    )
                ).status
                for method, path, who in asked
            ]

    assert asyncio.run(knock()) == [200, 403, 200, 403, 401, 204]


def test_their_sdk_reads_a_token_of_ours(server):
    async def mint():
        async with Api(server) as api:
            room = await api.create_room(["en", "es"])
            grants = {"speak": False, "moderate": True}
            reply = await api.request(
                "POST",
                f"/v1/rooms/{room}/tokens?claims=livekit",
                bearer=server.api_key,
                json={"identity": "ana", "language": "es", "hear": "en", "grants": grants},
            )
            await api.delete_room(room)
            assert reply.status == 201, reply.text
            return room, reply.json["token"]

    room, minted = asyncio.run(mint())
    claims = livekit.TokenVerifier(KEY, server.api_key).verify(minted)
    assert claims.identity == "ana" and claims.attributes == {"language": "es", "hear": "en"}
    assert claims.video.room == room and claims.video.room_join and claims.video.room_admin
    assert claims.video.can_publish is False and claims.video.can_subscribe is True
