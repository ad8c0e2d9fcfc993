"""The models of a running server are replaced by others: whoever is in a call stays in it, and what
they say is interpreted throughout, first by the ones and then by the others."""

import asyncio
import os
import signal
from pathlib import Path

from harness import prompts
from harness.events import EventStream
from harness.peer import Peer
from harness.server import Api, Server, configured

TIMEOUT_S = 60
ROUGH = """
[models]
translators = ["apertium"]
voices = ["espeak-ng"]
warm_up = []
"""
BETTER = """
[models]
translators = ["language-model", "apertium"]
voices = ["kokoro", "espeak-ng"]
warm_up = ["en-es"]
"""
WRONG = """
[models]
whisper = "no-such-model"
"""


async def logged(log: Path, line: str) -> None:
    """Waits until the server has written a line that holds these words."""
    async with asyncio.timeout(TIMEOUT_S):
        while line not in log.read_text(errors="replace"):
            await asyncio.sleep(0.1)


async def interpreted(speaker: Peer, events: EventStream, said: prompts.Prompt) -> str:
    """Says something; who translated what was spoken then."""
    before = len(events.events)
    await speaker.say(said.samples())
    spoken = await events.wait_for(
        lambda event: event.type == "utterance.spoken", after=before, timeout_s=TIMEOUT_S
    )
    return next(
        event["translator"]
        for event in events.events
        if event.type == "utterance.translation" and event["utterance"] == spoken["utterance"]
    )


async def call(server: Server, config: Path, log: Path) -> list[str]:
    """One call in which each sentence is interpreted by what the configuration names then."""
    said = next(p for p in prompts.pool("en", "es") if p.is_one_breath and p.duration_s < 4)
    translators = []
    async with Api(server) as api, Peer() as speaker, Peer() as listener:
        room = await api.create_room(["en", "es"])
        token = await api.token(room, "listener", "es")
        async with api.events(room, token) as events:
            await speaker.connect(api.answerer(room, await api.token(room, "speaker", "en")))
            await listener.connect(api.answerer(room, token))
            translators.append(await interpreted(speaker, events, said))

            config.write_text(BETTER)
            os.kill(server.pid, signal.SIGHUP)
            await logged(log, "loading the models anew")
            # While they are loaded, nobody notices.
            translators.append(await interpreted(speaker, events, said))
            await logged(log, "the models were replaced")
            translators.append(await interpreted(speaker, events, said))

            config.write_text(WRONG)
            os.kill(server.pid, signal.SIGHUP)
            await logged(log, "the models stay as they were")
            assert "no-such-model" in log.read_text()
            translators.append(await interpreted(speaker, events, said))

            config.write_text(BETTER)
            os.kill(server.pid, signal.SIGHUP)
            await logged(log, "nothing about them has changed")
            left = [event for event in events.events if event.type == "participant.left"]
            assert not left, "somebody fell out of the call"
            await api.delete_room(room)
    return translators


def test_other_models_take_over_in_the_middle_of_a_call(tmp_path):
    config, log = tmp_path / "dragoman.toml", tmp_path / "dragoman.log"
    with configured(tmp_path, ROUGH) as server:
        translators = asyncio.run(call(server, config, log))
    first, meanwhile, after, at_last = translators
    assert first == "apertium"
    assert meanwhile in ("apertium", "language-model"), "it may be replaced by then"
    assert after == at_last == "language-model"
