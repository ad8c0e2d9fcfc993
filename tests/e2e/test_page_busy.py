"""The page while the server leaves something out: a call and a conference say so, and take it back.
Here the server does so for a while whenever somebody has spoken."""

from __future__ import annotations

import asyncio
from itertools import groupby

import pytest

from harness import prompts, signals
from harness.browser import Browser, Page
from harness.events import EventStream
from harness.peer import Peer
from harness.server import Api, configured

LANGUAGES = ["en", "es"]
SPANISH = "confbridge-only-one"
TIMEOUT_S = 60
# Whatever waits to be heard is too much, and then it is long enough in each tier to be seen.
HASTY = """
[engine.overload]
step_down_at = 0.02
step_up_at = 0.01
high_ms = 100
low_ms = 2000
"""
# Nobody is spoken to, and no model has to be loaded for that.
PINNED = """
[models]
translators = ["apertium"]
voices = ["espeak-ng"]
warm_up = []
[engine.overload]
pin = "captions_only"
"""
# What tells the notice of a tier from the others; of other tiers nothing is said.
WORDS = {
    "cheaper_voice": "spoken in a simpler voice",
    "cheaper_translator": "less exact",
    "captions_only": "written, not spoken",
}
# All that the page has said of it, one after the other.
WATCH = """
window.notices = [];
new MutationObserver(() => {
  const notice = [...document.querySelectorAll("[role=status].busy")].map((line) => line.innerText);
  window.notices.push(notice.join(""));
}).observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with configured(tmp_path_factory.mktemp("busy"), HASTY) as server:
        yield server


async def join(page: Page, name: str, state: str, *, language: str | None = None) -> None:
    await page.wait_for("!document.querySelector('#join-button').disabled")
    await page.type("#name", name)
    if language:
        await page.choose("#language", language)
    await page.click("#join-button")
    await page.wait_for(f"document.querySelector('{state}').dataset.kind === 'good'")


async def words_told(events: EventStream) -> list[str]:
    """Waits until nothing is left out any more; what is to be read meanwhile."""
    await events.wait_for(
        lambda event: event.type == "server.tier" and event["tier"] == "full", timeout_s=TIMEOUT_S
    )
    tiers = ["full"] + [event["tier"] for event in events.of_type("server.tier")]
    return [words for words, _ in groupby(WORDS.get(tier, "") for tier in tiers)]


async def words_shown(page: Page) -> list[str]:
    """Waits until the page has nothing to say of it any more; what was to be read until then."""
    await page.wait_for("window.notices.some(Boolean) && window.notices.at(-1) === ''")
    notices = await page.evaluate("window.notices")
    shown = [next((w for w in WORDS.values() if w in notice), notice) for notice in notices]
    return [words for words, _ in groupby(shown)]


def test_a_call_and_a_conference_say_what_a_busy_server_leaves_out(server, tmp_path):
    (sentence,) = [p for p in prompts.pool("es", "en") if p.name == SPANISH]

    async def speak_and_read():
        microphone = signals.write_wav(tmp_path / "microphone.wav", signals.silence(TIMEOUT_S))
        async with (
            Api(server) as api,
            Browser(tmp_path, microphone=microphone) as browser,
            Peer() as beto,
        ):
            call = await api.create_room(LANGUAGES)
            hall = await api.create_room(LANGUAGES, kind="conference")
            token = await api.token(call, "beto", "es")
            watcher = await api.token(hall, "watcher", "en", grants={"speak": False})
            async with api.events(call, token) as in_call, api.events(hall, watcher) as in_hall:
                await beto.connect(api.answerer(call, token))
                anna = await browser.open(f"{server.url}/?room={call}", script=WATCH)
                await join(anna, "Anna", "#state", language="en")
                invited = f"{server.url}/?room={hall}&kind=conference&languages=en,es&role=listener"
                luisa = await browser.open(invited, script=WATCH)
                await join(luisa, "Luisa", "#conference-state")

                await beto.say(sentence.samples())
                told = [await words_told(events) for events in (in_call, in_hall)]
                shown = [await words_shown(page) for page in (anna, luisa)]
                return told, shown, anna.errors + luisa.errors

    told, shown, errors = asyncio.run(speak_and_read())
    print(f"told {told}, shown {shown}")
    assert shown == told
    assert errors == []


def test_whoever_joins_a_busy_server_is_told_at_once(tmp_path):
    async def read(server):
        microphone = signals.write_wav(tmp_path / "microphone.wav", signals.silence(TIMEOUT_S))
        async with Api(server) as api, Browser(tmp_path, microphone=microphone) as browser:
            call = await api.create_room(LANGUAGES)
            shown = await api.request("GET", f"/v1/rooms/{call}", bearer=server.api_key)
            page = await browser.open(f"{server.url}/?room={call}")
            await join(page, "Anna", "#state", language="en")
            await page.wait_for("document.querySelector('[role=status].busy').innerText !== ''")
            text = await page.evaluate("document.querySelector('[role=status].busy').innerText")
            return shown.json["tier"], text

    with configured(tmp_path, PINNED) as server:
        tier, text = asyncio.run(read(server))
    assert tier == "captions_only"
    assert WORDS[tier] in text
