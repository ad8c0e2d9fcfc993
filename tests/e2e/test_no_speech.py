"""Sounds that nobody said are not interpreted, and nothing is told about them."""

import asyncio

import numpy as np
import pytest

from harness import signals
from harness.peer import AUDIBLE_PEAK, Peer
from harness.server import Api

# Longer than every stage may take to find a sentence in it.
AFTERWARDS_S = 3.0

SOUNDS = {
    "silence": lambda seed: ("silence", signals.silence(4)),
    "quiet-white-noise": lambda seed: (
        "white noise, -45 dBFS",
        signals.white_noise(6, level_dbfs=-45, seed=seed),
    ),
    "loud-white-noise": lambda seed: (
        "white noise, -20 dBFS",
        signals.white_noise(6, level_dbfs=-20, seed=seed),
    ),
    "dtmf": lambda seed: ("every key", signals.dtmf("123A456B789C*0#D")),
    "music": lambda seed: signals.music(12, seed=seed),
}


@pytest.mark.parametrize("sound", SOUNDS)
def test_no_utterance_is_made_of(sound, server, seed):
    description, samples = SOUNDS[sound](seed)
    print(f"{sound}: {description}")

    async def call():
        async with Api(server) as api, Peer() as speaker, Peer() as listener:
            room = await api.create_room(["en", "es"])
            speaker_token = await api.token(room, "speaker", "en")
            listener_token = await api.token(room, "listener", "es")
            async with api.events(room, listener_token) as events:
                await speaker.connect(api.answerer(room, speaker_token))
                await listener.connect(api.answerer(room, listener_token))
                await asyncio.sleep(0.5)
                await speaker.say(samples)
                await asyncio.sleep(AFTERWARDS_S)
                await api.delete_room(room)
                return events.events, listener.log.heard()

    events, heard = asyncio.run(call())
    told = [event.body for event in events if event.type.startswith("utterance.")]
    assert told == [], f"{description} was taken for speech"
    assert np.abs(heard.astype(int)).max(initial=0) <= AUDIBLE_PEAK
