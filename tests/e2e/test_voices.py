"""Voices: which there are, and what a server says that has no engine which could learn more."""

from __future__ import annotations

import asyncio
import io
import wave

import aiohttp

from harness import signals
from harness.browser import Browser
from harness.peer import Peer
from harness.server import Api

RATE_HZ = 16_000
# The page of a server of which it is told that it can learn, and what it asks for.
AS_IF_IT_COULD_LEARN = """
window.asked = [];
const plainFetch = window.fetch;
window.fetch = async (path, options) => {
  if (options?.body) window.asked.push(JSON.parse(options.body));
  const answer = await plainFetch(path, options);
  if (path !== "/v1/languages") return answer;
  const languages = await answer.json();
  const changed = languages.map((one) => (one.code === "es" ? { ...one, own_voice: ["en"] } : one));
  return new Response(JSON.stringify(changed));
};
"""


def silence() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(RATE_HZ)
        recording.writeframes(bytes(2 * RATE_HZ))
    return file.getvalue()


def form(**fields: str) -> aiohttp.FormData:
    data = aiohttp.FormData(fields)
    data.add_field("clip", silence(), filename="ana.wav", content_type="audio/wav")
    return data


def assert_refused(reply, status: int, kind: str) -> str:
    assert reply.status == status, reply.text
    assert reply.headers["content-type"].startswith("application/problem+json")
    assert reply.json["type"] == f"/problems/{kind}", reply.text
    return reply.json["detail"]


def test_a_server_whose_engines_cannot_learn_says_so_and_offers_it_to_nobody(server):
    async def ask():
        async with Api(server) as api:
            key = server.api_key
            voices = (await api.request("GET", "/v1/voices")).json
            languages = (await api.request("GET", "/v1/languages")).json
            agreed = form(name="ana", consent="true")
            learned = await api.request("POST", "/v1/voices", bearer=key, data=agreed)
            nobody = await api.request("POST", "/v1/voices", data=form(name="ana", consent="true"))
            built_in = voices[0]["name"]
            deleted = await api.request("DELETE", f"/v1/voices/{built_in}", bearer=key)
            unknown = await api.request("DELETE", "/v1/voices/ana", bearer=key)
            return voices, languages, learned, nobody, deleted, unknown

    voices, languages, learned, nobody, deleted, unknown = asyncio.run(ask())
    assert {voice["kind"] for voice in voices} == {"built-in"}
    assert not any("own_voice" in language for language in languages)
    assert "models.voices" in assert_refused(learned, 409, "cannot-learn")
    assert_refused(nobody, 401, "missing-credentials")
    assert_refused(deleted, 409, "built-in-voice")
    assert_refused(unknown, 404, "no-such-voice")


def test_the_own_voice_is_refused_without_consent_and_where_none_can_be_learned(server):
    async def ask():
        async with Api(server) as api:
            room = await api.create_room(["en", "es"])
            path, key = f"/v1/rooms/{room}", server.api_key
            who = {"identity": "ana", "language": "es", "voice": "own"}
            tokens = f"{path}/tokens"
            silent = await api.request("POST", tokens, bearer=key, json=who)
            agreed = {**who, "grants": {"own_voice": True}}
            granted = await api.request("POST", tokens, bearer=key, json=agreed)
            # The consent alone asks for nothing, and is there for all to see.
            token = await api.token(room, "ben", "es", grants={"own_voice": True})
            async with Peer() as peer, api.events(room, token) as events:
                await peer.connect(api.answerer(room, token))
                joined = await events.wait_for(
                    lambda event: event.type == "participant.joined", timeout_s=5
                )
                shown = await api.request("GET", f"{path}/participants/ben", bearer=key)
                kept = await api.request(
                    "POST", f"{path}/participants/ben/voice", bearer=key, json={"name": "ben"}
                )
            await api.delete_room(room)
            return silent, granted, joined.body, shown.json, kept

    silent, granted, joined, shown, kept = asyncio.run(ask())
    assert "own_voice" in assert_refused(silent, 422, "invalid-field")
    assert_refused(granted, 409, "cannot-learn")
    assert joined["participant"]["own_voice"] == shown["own_voice"] == "granted"
    assert_refused(kept, 409, "not-learned")


def test_the_page_offers_the_own_voice_where_it_can_be_learned_and_asks_only_for_what_was_chosen(
    server, tmp_path
):
    microphone = signals.write_wav(tmp_path / "microphone.wav", signals.silence(2.0))
    offered = "!document.querySelector('#own-voice-field').hidden"
    checked = "document.querySelector('#own-voice').checked"
    locked = "document.querySelector('#voice').disabled"

    async def look():
        async with Browser(tmp_path, microphone=microphone) as browser:
            page = await browser.open(f"{server.url}/?room=own-voice", script=AS_IF_IT_COULD_LEARN)
            await page.wait_for("!document.querySelector('#join-button').disabled")
            await page.type("#name", "Ana")
            await page.choose("#language", "en")
            assert not await page.evaluate(offered), "nothing is learned for English"
            await page.choose("#language", "es")
            assert await page.evaluate(offered) and not await page.evaluate(checked)
            help_text = await page.evaluate("document.querySelector('#own-voice-help').textContent")
            assert "English" in help_text and "forgets" in help_text
            for width, height, dark in ((1200, 900, False), (1200, 900, True), (390, 844, False)):
                await page.look(width=width, height=height, dark=dark)
                await page.screenshot(tmp_path / f"own-voice-{width}{'-dark' if dark else ''}.png")
                wide = await page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, "nothing is cut off"
            await page.click("#own-voice")
            assert await page.evaluate(checked) and await page.evaluate(locked)
            await page.choose("#language", "en")
            await page.choose("#language", "es")
            assert not await page.evaluate(checked), "what was agreed to is not taken for granted"
            await page.click("#own-voice")
            await page.click("#join-button")
            await page.wait_for("document.querySelector('#join-error').textContent")
            asked = await page.evaluate("window.asked")
            error = await page.evaluate("document.querySelector('#join-error').textContent")
            return asked, error, page.errors

    asked, error, errors = asyncio.run(look())
    print(f"screenshots: {tmp_path}")
    (wish,) = asked
    assert wish["voice"] == "own" and wish["grants"] == {"own_voice": True}
    assert "can learn no voices" in error
    assert errors == []
