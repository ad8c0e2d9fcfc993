"""A participant who agrees to it is heard in their own voice: the voice engine learns it from what
they say in a call. Its networks are tiny and their weights random, so nobody would know the voice;
who speaks when, and what is told of it, is as with real ones."""

from __future__ import annotations

import asyncio

import aiohttp
import numpy as np

from harness import prompts, tortoise
from harness.peer import Peer
from harness.server import Api, configured

TIMEOUT_S = 90
NEEDED_MS = 18_000


def configuration(model) -> str:
    return f"""
[models]
translators = ["apertium"]
voices = ["tortoise", "espeak-ng"]
warm_up = []
[models.tortoise]
model = "{model}"
[voices]
folder = ""
"""


async def sentences_of_the_engine(server) -> float:
    """How many sentences the voice engine has read so far."""
    async with aiohttp.ClientSession(server.admin_url) as admin, admin.get("/metrics") as answer:
        lines = (await answer.text()).splitlines()
    name = 'dragoman_batch_requests_total{stage="speak",model="tortoise"} '
    return next(float(line.removeprefix(name)) for line in lines if line.startswith(name))


async def hold_call(server, seed: int) -> tuple[list[dict], list[float], np.ndarray]:
    """What was told of the voice; how many sentences the engine had read at the beginning, when it
    was learned, and after one more; and how that one sounds."""
    said = prompts.draw("es", "en", 12, seed)
    async with Api(server) as api, Peer() as speaker, Peer() as listener:
        room = await api.create_room(["es", "en"])
        own = {"voice": "own", "grants": {"speak": True, "listen": True, "own_voice": True}}
        token = await api.token(room, "speaker", "es", **own)
        listening = await api.token(room, "listener", "en")
        async with api.events(room, listening) as events:
            await listener.connect(api.answerer(room, listening))
            await speaker.connect(api.answerer(room, token))
            read = [await sentences_of_the_engine(server)]
            for prompt in said:
                await speaker.say(prompt.samples())
                # Long enough for a segment to end.
                await asyncio.sleep(1)
                if any(voice["state"] != "collecting" for voice in told(events)):
                    break
            await events.wait_for(
                lambda event: event.body.get("state") in ("learned", "failed"), timeout_s=TIMEOUT_S
            )
            await events.settle(quiet_s=2, timeout_s=TIMEOUT_S)
            read.append(await sentences_of_the_engine(server))

            after = len(events.events)
            await speaker.say(said[0].samples())
            spoken = await events.wait_for(
                lambda event: event.type == "utterance.spoken", after=after, timeout_s=TIMEOUT_S
            )
            await listener.hear_out(quiet_s=1, timeout_s=TIMEOUT_S)
            heard = listener.log.heard(spoken["rtp_timestamp"])
            read.append(await sentences_of_the_engine(server))

            await speaker.close()
            await events.wait_for(
                lambda event: event.body.get("state") == "forgotten", timeout_s=TIMEOUT_S
            )
            voices = told(events)
            await api.delete_room(room)
    return voices, read, heard


def told(events) -> list[dict]:
    return [event.body for event in events.of_type("participant.voice")]


def test_a_voice_is_collected_learned_heard_and_forgotten(tmp_path, seed):
    model = tortoise.imported(tmp_path)
    with configured(tmp_path, configuration(model)) as server:
        voices, (before, learning, after), heard = asyncio.run(hold_call(server, seed))
    states = [voice["state"] for voice in voices]
    assert states[0] == "collecting" and states[-2:] == ["learned", "forgotten"], states
    assert {voice["identity"] for voice in voices} == {"speaker"}
    collected = [voice["collected_ms"] for voice in voices if voice["state"] == "collecting"]
    assert collected == sorted(collected) and collected[-1] >= NEEDED_MS
    # Nobody is heard in a voice that is not learned yet; then what is said is.
    assert before == 0
    assert after > learning, "the last sentence was read by the engine that learned the voice"
    loudness = np.sqrt(np.mean(np.square(heard.astype(np.float64))))
    assert loudness > 100, f"nothing is heard: {loudness:.0f}"
