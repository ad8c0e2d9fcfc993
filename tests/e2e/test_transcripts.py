"""What an event announced as final is in the transcript, although the server was killed in the
middle of a meeting, three times; and what comes out is what parsers of others expect."""

import asyncio
import html
import itertools
import json
import random
import stat
import subprocess
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import srt
import webvtt

from harness import prompts
from harness.call import PAUSE_S, SENTENCE_TIMEOUT_S
from harness.peer import Peer
from harness.server import Api, Server, program
from harness.signals import silence

ANNOUNCED = ("utterance.transcript", "utterance.translation")
# Long enough for the pause between two sentences to end an utterance.
BETWEEN_S = 0.8
SENTENCES = 4

# When the server is killed: so many seconds after this event had come so many times.
KILLS = [
    ("utterance.translation", 1, 0.0),
    ("utterance.transcript", 2, 0.0),
    ("utterance.translation", 2, None),
]

# Only what the call needs, since the server starts four times: the translator and the voice that
# take no time to load.
CONFIG = """
[models]
translators = ["apertium"]
voices = ["espeak-ng"]
warm_up = []
"""


@dataclass
class Meeting:
    """One meeting that was cut short, as its listener saw it."""

    room: str
    announced: list[dict]
    # Whether somebody was still speaking when the server died.
    mid_speech: bool

    def texts(self, event_type: str) -> dict[str, str]:
        return {
            event["utterance"]: event["text"]
            for event in self.announced
            if event["type"] == event_type
        }


@dataclass
class Survivor:
    """The server that came after the last kill, and the meetings that those before it held."""

    server: Server
    meetings: list[Meeting]
    path: Path

    def export(self, room: str, **query: str) -> str:
        reply = asyncio.run(self.ask("GET", f"/v1/rooms/{room}/transcript", **query))
        assert reply.status == 200, reply.text
        return reply.text

    async def ask(self, method: str, path: str, **query: str):
        async with Api(self.server) as api:
            return await api.request(method, path, bearer=self.server.api_key, params=query)


@pytest.fixture(scope="module")
def survivor(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("transcripts")
    config = folder / "dragoman.toml"
    config.write_text(CONFIG)
    path = folder / "made" / "for" / "it" / "transcripts.sqlite3"
    draw = random.Random(seed)
    starts = iter(range(len(KILLS) + 1))

    def start() -> Server:
        log = folder / f"server-{next(starts)}.log"
        return Server("--config", str(config), log=log, transcripts=path)

    meetings = []
    for event_type, times, after_s in KILLS:
        after_s = draw.uniform(0.0, 0.6) if after_s is None else after_s
        drawn = prompts.draw("en", "es", SENTENCES, draw.randrange(1_000_000))
        server = start()
        try:
            meetings.append(asyncio.run(cut_short(server, drawn, event_type, times, after_s)))
        finally:
            server.kill()
    server = start()
    yield Survivor(server, meetings, path)
    assert server.stop() == 0


async def cut_short(server, drawn, event_type: str, times: int, after_s: float) -> Meeting:
    """A call whose server is killed while the speaker goes on."""
    pause = silence(BETWEEN_S)
    speech = np.concatenate([part for prompt in drawn for part in (prompt.samples(), pause)])
    # The same over and over, until the server is killed: however slow it is, somebody speaks then.
    speech = np.tile(speech, 1 + int(2 * SENTENCE_TIMEOUT_S * prompts.SAMPLE_RATE / len(speech)))
    came = itertools.count(1)
    async with Api(server) as api, Peer() as speaker, Peer() as listener:
        room = await api.create_room(["en", "es"])
        speaker_token = await api.token(room, "speaker", "en")
        listener_token = await api.token(room, "listener", "es")
        async with api.events(room, listener_token) as events:
            await speaker.connect(api.answerer(room, speaker_token))
            await listener.connect(api.answerer(room, listener_token))
            await asyncio.sleep(PAUSE_S)
            silent_at = time.monotonic() + speaker.microphone.play(speech)
            await events.wait_for(
                lambda event: event.type == event_type and next(came) == times,
                timeout_s=SENTENCE_TIMEOUT_S,
            )
            await asyncio.sleep(after_s)
            server.kill()
            mid_speech = time.monotonic() < silent_at
            # What was on its way to us when it died was announced, too.
            await events.ended(timeout_s=10)
            announced = [event.body for event in events.of_type(*ANNOUNCED)]
    return Meeting(room, announced, mid_speech)


def test_every_announced_transcript_and_translation_is_there_after_each_kill(survivor):
    for meeting in survivor.meetings:
        assert meeting.mid_speech, "it was to be killed while somebody spoke"
        said = meeting.texts("utterance.transcript")
        became = meeting.texts("utterance.translation")
        print(f"{meeting.room}: {len(said)} transcripts and {len(became)} translations announced")
        originals = lines_of(survivor.export(meeting.room))
        translated = lines_of(survivor.export(meeting.room, language="es"), language="es")
        assert said.items() <= originals.items()
        assert became.items() <= translated.items()
        # One more may have been written when it was killed, before it could be announced.
        assert len(originals) <= len(said) + 1
        assert len(translated) <= len(became) + 1
    assert sum(len(meeting.announced) for meeting in survivor.meetings) >= 5


def test_a_killed_meeting_ended_at_its_last_utterance(survivor):
    for meeting in survivor.meetings:
        reply = asyncio.run(survivor.ask("GET", f"/v1/rooms/{meeting.room}/meetings"))
        (found,) = reply.json
        transcript = json.loads(survivor.export(meeting.room))
        last_ms = max(line["end_ms"] for line in transcript["lines"])
        assert found["ended_at_ms"] == found["started_at_ms"] + last_ms
        assert found["utterances"] == len(transcript["lines"])


def test_webvtt_is_what_another_parser_expects(survivor):
    meeting = survivor.meetings[-1]
    transcript = json.loads(survivor.export(meeting.room, language="es"))
    captions = webvtt.from_string(survivor.export(meeting.room, language="es", format="vtt"))
    assert len(captions) == len(transcript["lines"])
    for caption, line in zip(captions, transcript["lines"], strict=True):
        assert caption.identifier == line["utterance"]
        assert caption.voice == "speaker"
        assert words(html.unescape(caption.text)) == words(marked(line))
        assert caption.start_time.in_milliseconds() == line["start_ms"]
        assert caption.end_time.in_milliseconds() == line["end_ms"] > line["start_ms"]
        assert all(len(row) <= 42 for row in caption.text.splitlines())


def test_subrip_is_what_another_parser_expects(survivor):
    meeting = survivor.meetings[-1]
    transcript = json.loads(survivor.export(meeting.room, language="es"))
    cues = list(srt.parse(survivor.export(meeting.room, language="es", format="srt")))
    assert [cue.index for cue in cues] == list(range(1, len(transcript["lines"]) + 1))
    for cue, line in zip(cues, transcript["lines"], strict=True):
        assert words(cue.content) == words(f"speaker: {marked(line)}")
        assert cue.start == timedelta(milliseconds=line["start_ms"])
        assert cue.end == timedelta(milliseconds=line["end_ms"])


def test_the_file_is_its_owners_alone(survivor):
    assert stat.S_IMODE(survivor.path.stat().st_mode) == 0o600
    for folder in list(survivor.path.parents)[:3]:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder


def test_the_operator_lists_exports_and_erases_beside_the_running_server(survivor):
    meeting = survivor.meetings[0]
    listed = json.loads(transcripts(survivor, "list", "--room", meeting.room, "--json"))
    assert [found["room"] for found in listed] == [meeting.room]
    number = str(listed[0]["id"])
    exported = transcripts(survivor, "export", number, "--language", "es", "--format", "vtt")
    assert exported == survivor.export(meeting.room, language="es", format="vtt")

    assert "erased: 1 meetings" in transcripts(survivor, "erase", "--room", meeting.room)
    reply = asyncio.run(survivor.ask("GET", f"/v1/rooms/{meeting.room}/transcript"))
    assert (reply.status, reply.json["type"]) == (404, "/problems/no-transcript")
    table = transcripts(survivor, "list")
    assert meeting.room not in table
    assert survivor.meetings[1].room in table


def test_a_second_server_does_not_get_the_same_file(survivor):
    result = subprocess.run(
        [str(program()), "serve", "--development", "--transcripts", str(survivor.path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 1
    assert "another server keeps its transcripts in" in result.stderr
    assert "transcripts.path" in result.stderr


def lines_of(transcript: str, *, language: str | None = None) -> dict[str, str]:
    lines = json.loads(transcript)["lines"]
    return {
        line["utterance"]: line["text"]
        for line in lines
        if language is None or line["language"] == language
    }


def marked(line: dict) -> str:
    return line["text"] if line["language"] == "es" else f"[{line['language']}] {line['text']}"


def words(text: str) -> list[str]:
    return text.split()


def transcripts(survivor: Survivor, *arguments: str) -> str:
    command = [str(program()), "transcripts", "--transcripts", str(survivor.path), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
