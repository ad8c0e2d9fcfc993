"""A WHIP and a WHEP client that are none of ours: @binbat/whip-whep over libwebrtc."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import numpy as np
import pytest

from harness import prompts, recogniser, scoring
from harness.server import Api

NODE = Path(__file__).parent / "node"
LANGUAGES = ["en", "es"]
TIMEOUT_S = 90
# The recording holds what libwebrtc plays, with its own jitter buffer in it.
MOST_WORDS_WRONG = 0.35


class Client:
    """One run of `whip_whep.mjs`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, *arguments: str) -> Client:
        process = await asyncio.create_subprocess_exec(
            "node",
            str(NODE / "whip_whep.mjs"),
            *arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        line = await asyncio.wait_for(process.stdout.readline(), TIMEOUT_S)
        if line.strip() != b"connected":
            process.kill()
            error = (await process.stderr.read()).decode(errors="replace")
            raise AssertionError(f"the client did not connect: {error}")
        return cls(process)

    async def stop(self) -> int:
        """Lets it end its session."""
        await asyncio.wait_for(self._process.communicate(b"\n"), 20)
        return self._process.returncode


def raw(path: Path) -> np.ndarray:
    return np.fromfile(path, dtype=np.int16)


async def through_npm(server, folder: Path, prompt: prompts.Prompt, *options: str):
    speech, heard = folder / "speech.pcm", folder / "heard.pcm"
    prompt.samples().tofile(speech)
    async with Api(server) as api:
        room = await api.create_room(LANGUAGES, kind="conference", original_gain=0.0)
        speaker = await api.token(room, "alice", "en", grants={"listen": False})
        listener = await api.token(room, "beto", "es", grants={"speak": False})
        base = f"{server.url}/v1/rooms/{room}"
        async with api.events(room, listener) as events:
            ear = await Client.start("listen", f"{base}/whep?channel=es", listener, str(heard))
            mouth = await Client.start("publish", f"{base}/whip", speaker, str(speech), *options)
            spoken = await events.wait_for(
                lambda event: event.type == "utterance.spoken", timeout_s=TIMEOUT_S
            )
            said = await events.wait_for(
                lambda event: event.type == "utterance.translation", timeout_s=TIMEOUT_S
            )
            # The interpretation is about as long as the sentence.
            await asyncio.sleep(2 * prompt.duration_s)
            codes = await mouth.stop(), await ear.stop()
            left = await events.wait_for(
                lambda event: event.type == "participant.left", timeout_s=20
            )
            await api.delete_room(room)
    return said["text"], raw(heard), spoken.body, codes, left.body


@pytest.mark.parametrize("options", [(), ("restart",)], ids=["plain", "ice-restart"])
def test_whip_whep_from_npm_publishes_and_listens(server, tmp_path, options):
    prompt = next(
        p for p in prompts.pool("en", "es") if p.is_one_breath and 3.0 < p.duration_s < 5.0
    )
    said, heard, spoken, codes, left = asyncio.run(through_npm(server, tmp_path, prompt, *options))
    text = recogniser.transcribe(heard, "es")
    wrong = scoring.word_error_rate([said], [text], "es")
    print(f"{said!r} was heard as {text!r}, {wrong:.0%} of words wrong")
    assert wrong <= MOST_WORDS_WRONG
    assert spoken["listener"] == "beto"
    assert codes == (0, 0)
    assert left["reason"] == "left", "DELETE on the session ends it at once"
