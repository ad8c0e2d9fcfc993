"""A server that is asked to end in the middle of a sentence: the sentence is interpreted to its
end, nothing new is taken, everybody is told, and the process is gone in time. What it tells other
services on the way is checked with a library of the standard's own authors."""

import asyncio
import base64
import contextlib
import json
import os
import secrets
import signal
import time
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from standardwebhooks import Webhook

from harness import prompts
from harness.events import Event
from harness.peer import Peer
from harness.server import Api, Reply, Server

TIMEOUT_S = 60
# The configured grace, and what the end takes after it.
GRACE_S = 40
END_S = GRACE_S + 10
GOING_AWAY = 1001


@dataclass
class Told:
    """What a receiver of webhooks was told, and how often it refused."""

    bodies: list[dict] = field(default_factory=list)
    refused: int = 0


@contextlib.asynccontextmanager
async def receiver(secret: str):
    """Takes webhooks, but for the first, and gives their address."""
    told = Told()

    async def take(request: web.Request) -> web.Response:
        body = Webhook(secret).verify(await request.read(), dict(request.headers))
        if told.refused == 0:
            told.refused += 1
            return web.Response(status=500)
        told.bodies.append(body)
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook", told
    finally:
        await runner.cleanup()


@dataclass
class End:
    """What was seen of a server's end."""

    story: list[Event]
    offer: Reply
    ready: list[int]
    reason: str
    close_code: int
    exit_code: int
    took_s: float


async def end_within_a_sentence(server: Server, said: prompts.Prompt) -> End:
    async with Api(server) as api, Peer() as speaker, Peer() as listener:
        room = await api.create_room(["en", "es"])
        tokens = [
            await api.token(room, *who)
            for who in (("speaker", "en"), ("listener", "es"), ("late", "es"))
        ]
        async with api.events(room, tokens[1]) as events:
            await speaker.connect(api.answerer(room, tokens[0]))
            await listener.connect(api.answerer(room, tokens[1]))
            saying = asyncio.ensure_future(speaker.say(said.samples()))
            started = await events.wait_for(
                lambda event: event.type == "utterance.started", timeout_s=TIMEOUT_S
            )
            os.kill(server.pid, signal.SIGTERM)
            asked = time.monotonic()
            await asyncio.sleep(0.3)
            offer = await api.offer(room, tokens[2], "v=0\r\n")
            ready = [(await api.request("GET", "/readyz")).status]
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"{server.admin_url}/readyz") as reply,
            ):
                ready.append(reply.status)
            await saying
            ended = await events.wait_for(
                lambda event: event.type == "room.ended", timeout_s=TIMEOUT_S
            )
            close_code = await asyncio.wait_for(events.closed(), TIMEOUT_S)
            exit_code = await asyncio.to_thread(server.wait, END_S)
            return End(
                story=events.utterance(started["utterance"]),
                offer=offer,
                ready=ready,
                reason=ended["reason"],
                close_code=close_code,
                exit_code=exit_code,
                took_s=time.monotonic() - asked,
            )


def test_a_server_that_is_asked_to_end_finishes_what_is_being_said(tmp_path, seed):
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    said = prompts.draw("en", "es", 1, seed)[0]

    async def end() -> tuple[End, Told]:
        async with receiver(secret) as (url, told):
            config = tmp_path / "dragoman.toml"
            config.write_text(
                f"[http]\nshutdown_grace_s = {GRACE_S}\n"
                f"[webhooks]\nurls = [{json.dumps(url)}]\nsecret = {json.dumps(secret)}\n"
                "retry_ms = 100\n"
            )
            arguments = ("--config", str(config))
            server = await asyncio.to_thread(Server, *arguments, log=tmp_path / "dragoman.log")
            try:
                return await end_within_a_sentence(server, said), told
            finally:
                server.kill()

    seen, told = asyncio.run(end())
    assert "utterance.spoken" in [event.type for event in seen.story], seen.story
    assert seen.offer.status == 503 and seen.offer.json["type"] == "/problems/draining"
    assert int(seen.offer.headers["retry-after"]) > 0
    assert seen.ready == [503, 503]
    assert (seen.reason, seen.close_code) == ("shutdown", GOING_AWAY)
    assert seen.exit_code == 0
    assert seen.took_s < END_S
    types = [body["type"] for body in told.bodies]
    joined, left = "participant.joined", "participant.left"
    assert told.refused == 1
    assert types[:5] == ["room.started", joined, joined, left, left], types
    assert types[5] == "room.ended" and told.bodies[5]["reason"] == "shutdown"
    print(f"ended {seen.took_s:.1f} s after SIGTERM")
