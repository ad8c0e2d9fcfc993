"""The page in a conference, in a real browser: a listener turns the dial while others speak, a
speaker is heard, a moderator mutes and removes. The other side of each is on an independent WebRTC
stack."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np
import pytest

from harness import prompts, recogniser, scoring, signals
from harness.browser import Browser, Page
from harness.events import Event, EventStream
from harness.peer import Peer
from harness.server import Api

LANGUAGES = ["en", "es"]
# Each is one breath, so one utterance. The first two are said by a peer, the third on the page.
ENGLISH = ("confbridge-lock-no-join", "vm-sorry", "conf-waitforleader")
MOST_WORDS_WRONG = 0.35
TIMEOUT_S = 120
QUIET_S = 1.5
# The browser's microphone begins when it is opened: time for the page to join.
LEAD_S = 5.0
TAIL_S = 60.0

SOUND = "#sound-channel"
# Counts what must not be made anew when the channel is switched.
WATCH = """
window.connections = 0;
const Plain = window.RTCPeerConnection;
window.RTCPeerConnection = class extends Plain {
  constructor(...configuration) { super(...configuration); window.connections += 1; }
};
window.lines = new Set();
window.partials = new Set();
new MutationObserver(() => {
  for (const line of document.querySelectorAll("#dial .stop.live .stop-line")) {
    const channel = line.closest(".stop").querySelector("input").value;
    window.lines.add(`${channel}: ${line.textContent}`);
  }
  for (const text of document.querySelectorAll("#conference .partial:not([hidden])")) {
    window.partials.add(text.textContent);
  }
}).observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
"""
CAPTIONS = """
[...document.querySelectorAll("#conference-captions .caption")].map((caption) => {
  const text = (part) => caption.querySelector(`${part}:not([hidden])`)?.textContent ?? "";
  const lead = caption.querySelector(".lead");
  return {
    speaker: text(".speaker"), text: text(".lead"), note: text(".note"), language: lead.lang,
    partial: lead.classList.contains("partial"),
  };
})
"""
DIAL = """
Object.fromEntries([...document.querySelectorAll("#dial .stop")].map((stop) => [
  stop.querySelector("input").value, stop.querySelector(".stop-line").textContent,
]))
"""
ARROW_RIGHT = ("ArrowRight", 39)


@dataclass
class Meeting:
    """A conference that is over."""

    said: list[prompts.Prompt]
    # What was told while each of the three sentences was said.
    told: list[list[Event]] = field(default_factory=list)
    # What the listener's page played during the first two, and a peer of the third.
    heard: list[np.ndarray] = field(default_factory=list)
    captions: list[dict] = field(default_factory=list)
    dial: dict = field(default_factory=dict)
    live_lines: list[str] = field(default_factory=list)
    partials: list[str] = field(default_factory=list)
    state: list[str] = field(default_factory=list)
    connections: int = 0
    same_element: bool = False
    invitation: str = ""
    muted: Event | None = None
    removed: str = ""
    over: str = ""
    errors: list[str] = field(default_factory=list)

    def text(self, index: int, event_type: str, language: str) -> str:
        wanted = [e for e in self.told[index] if e.type == event_type]
        return " ".join(event["text"] for event in wanted if event["language"] == language)

    def caption(self, index: int) -> dict:
        """The caption of one sentence, which is one utterance."""
        assert len(self.captions) == len(self.said), self.captions
        return self.captions[index]


@pytest.fixture(scope="module")
def meeting(server, tmp_path_factory) -> Meeting:
    known = {prompt.name: prompt for prompt in prompts.pool("en", "es")}
    held = Meeting([known[name] for name in ENGLISH])
    output = tmp_path_factory.mktemp("page-conference")
    asyncio.run(hold(server, held, output))
    print(f"screenshots and recordings: {output}")
    for caption in held.captions:
        print(caption)
    return held


async def hold(server, held: Meeting, output) -> None:
    speech = [signals.silence(LEAD_S), held.said[2].samples(), signals.silence(TAIL_S)]
    microphone = signals.write_wav(output / "microphone.wav", np.concatenate(speech))
    # Two browsers: one cancels the echo of whatever any of its tabs plays, and the listener's plays
    # the speaker.
    annas_profile = output / "anna"
    annas_profile.mkdir()
    async with (
        Api(server) as api,
        Browser(output, microphone=microphone) as browser,
        Browser(annas_profile, microphone=microphone) as annas_browser,
        Peer(direction="sendonly") as alice,
        Peer(direction="recvonly") as beto,
    ):
        room = await api.create_room(LANGUAGES, kind="conference", original_gain=0.0)
        watcher = await api.token(room, "watcher", "en", grants={"speak": False})
        async with api.events(room, watcher) as events:
            token = await api.token(room, "alice", "en", name="Alice", grants={"listen": False})
            await alice.connect(api.answerer(room, token, to="whip"))
            invited = f"{server.url}/?room={room}&kind=conference&languages=en,es"
            luisa = await browser.open(f"{invited}&role=listener", script=WATCH)
            await luisa.look(width=1280, height=800)
            await fill_in(luisa, "Luisa", listen="es")
            await luisa.screenshot(output / "invited.png")
            await join(luisa)
            await luisa.evaluate(f"document.querySelector('{SOUND}').dataset.mark = 'first'")

            await luisa.record(SOUND)
            held.told.append(await say(events, alice.say(held.said[0].samples())))
            held.heard.append(await heard_on(luisa, output / "spanish.webm"))
            held.dial = await luisa.evaluate(DIAL)
            held.state.append(await luisa.evaluate(state_of("#conference-state")))

            # What nobody listens to in another language is not even recognised, so there would be
            # no captions on the floor without him.
            token = await api.token(room, "beto", "es", grants={"speak": False})
            await beto.connect(api.answerer(room, token, to="whep", channel="es"))

            # From the last stop the arrow key leads to the first: the floor.
            await luisa.evaluate("document.querySelector('#dial input:checked').focus()")
            await luisa.press(*ARROW_RIGHT)
            await luisa.wait_for(f"{state_of('#conference-state')}.includes('floor')")
            await luisa.record(SOUND)
            held.told.append(await say(events, alice.say(held.said[1].samples())))
            held.heard.append(await heard_on(luisa, output / "floor.webm"))
            held.state.append(await luisa.evaluate(state_of("#conference-state")))
            held.same_element = await luisa.evaluate(
                f"document.querySelector('{SOUND}').dataset.mark === 'first'"
            )
            held.connections = await luisa.evaluate("window.connections")
            await take_pictures(luisa, output)

            # Somebody speaks on the page, and a peer hears the interpretation.
            before = len(beto.log.arrived)
            anna = await annas_browser.open(f"{invited}&role=speaker", script=WATCH)
            await fill_in(anna, "Anna", listen="en")
            await anna.choose("#language", "en")
            held.told.append(await say(events, join(anna)))
            await beto.hear_out(quiet_s=QUIET_S, timeout_s=TIMEOUT_S)
            first = beto.log.arrived[before].rtp_timestamp if before < len(beto.log.arrived) else 0
            held.heard.append(beto.log.heard(first))

            held.captions = await luisa.evaluate(CAPTIONS)
            held.live_lines = await luisa.evaluate("[...window.lines]")
            held.partials = await luisa.evaluate("[...window.partials]")

            await moderate(browser, invited, events, held, anna)
            await api.delete_room(room)
            held.over = await luisa.wait_for("document.querySelector('#over-message').textContent")
            held.errors = luisa.errors + anna.errors


async def moderate(browser, invited: str, events: EventStream, held: Meeting, anna: Page) -> None:
    """A moderator comes, mutes one and removes the other."""
    mona = await browser.open(f"{invited}&role=moderator", script=WATCH)
    await mona.look(width=1280, height=800)
    await fill_in(mona, "Mona", listen="floor")
    await mona.choose("#language", "en")
    await join(mona)
    await mona.choose("#invite-role", "speaker")
    held.invitation = await mona.evaluate("document.querySelector('#invite-link').value")
    told = len(events.events)
    await mona.wait_for("document.querySelector('[aria-label=\"Mute Alice\"]')?.isConnected")
    await mona.click('[aria-label="Mute Alice"]')
    held.muted = await events.wait_for(
        lambda event: event.type == "participant.muted", after=told, timeout_s=20
    )
    await mona.wait_for("document.querySelector('[aria-label=\"Unmute Alice\"]')?.isConnected")
    # It asks whether that is meant.
    await mona.click('[aria-label="Remove Anna"]')
    await mona.click('[aria-label="Remove Anna: press again to confirm"]')
    held.removed = await anna.wait_for("document.querySelector('#over-message').textContent")
    held.errors += mona.errors
    await mona.click("#conference-leave")


def state_of(selector: str) -> str:
    return f"document.querySelector('{selector}').textContent"


async def fill_in(page: Page, name: str, *, listen: str) -> None:
    await page.wait_for("!document.querySelector('#join-button').disabled")
    await page.type("#name", name)
    await page.choose("#listen", listen)


async def join(page: Page) -> None:
    await page.click("#join-button")
    await page.wait_for("document.querySelector('#conference-state')?.dataset.kind === 'good'")


async def say(events: EventStream, speaking) -> list[Event]:
    """Waits for a sentence, and for whatever becomes of it; what was told meanwhile."""
    before = len(events.events)
    await speaking
    await events.wait_for(
        lambda event: event.type == "utterance.transcript", after=before, timeout_s=TIMEOUT_S
    )
    await events.settle(quiet_s=QUIET_S, timeout_s=TIMEOUT_S)
    return events.events[before:]


async def heard_on(page: Page, path) -> np.ndarray:
    """Ends a recording of the page's sound once it is quiet."""
    await page.hear_out(SOUND)
    path.write_bytes(await page.recorded())
    return prompts.decode(path)


async def take_pictures(page: Page, output) -> None:
    for name, width, height, dark in [
        ("light", 1280, 800, False),
        ("dark", 1280, 800, True),
        ("phone-light", 390, 844, False),
        ("phone-dark", 390, 844, True),
    ]:
        await page.look(width=width, height=height, dark=dark)
        await page.screenshot(output / f"conference-{name}.png")


def assert_heard(what: str, samples: np.ndarray, language: str, text: str) -> None:
    heard = recogniser.transcribe(samples, language)
    wrong = scoring.word_error_rate([text], [heard], language)
    print(f"{what}: {text!r} was heard as {heard!r}, {wrong:.0%} of words wrong")
    assert text, f"{what}: there was nothing to hear"
    assert wrong <= MOST_WORDS_WRONG, f"{what}: {text!r} was heard as {heard!r}"


def test_a_listener_on_the_page_hears_the_interpretation(meeting):
    said = meeting.text(0, "utterance.translation", "es")
    assert_heard("the page, es", meeting.heard[0], "es", said)
    assert "Spanish" in meeting.state[0]


def test_turning_the_dial_leads_to_the_floor_on_the_same_connection(meeting):
    assert_heard("the page, floor", meeting.heard[1], "en", meeting.said[1].text)
    assert "floor" in meeting.state[1]
    assert meeting.connections == 1
    assert meeting.same_element


def test_captions_come_in_the_language_of_the_channel_with_the_speakers_name(meeting):
    spanish, floor, annas = (meeting.caption(index) for index in range(3))
    assert spanish["text"] == meeting.text(0, "utterance.translation", "es")
    assert (spanish["language"], spanish["speaker"]) == ("es", "Alice")
    assert floor["text"] == meeting.text(1, "utterance.transcript", "en")
    assert (floor["language"], floor["speaker"]) == ("en", "Alice")
    assert annas["text"] == meeting.text(2, "utterance.transcript", "en")
    assert annas["speaker"] == "Anna"
    assert not any(caption["partial"] for caption in meeting.captions)


def test_partial_captions_are_texts_that_the_server_told(meeting):
    told = {
        event["text"].strip()
        for events in meeting.told
        for event in events
        if event.type == "utterance.partial"
    }
    assert {text.strip() for text in meeting.partials} <= told


def test_the_dial_says_who_speaks_and_who_interprets(meeting):
    assert meeting.dial["es"] == "by the machine"
    assert "floor: Alice speaks" in meeting.live_lines
    assert "floor: Anna speaks" in meeting.live_lines


def test_a_speaker_on_the_page_is_heard_in_another_language(meeting):
    said = meeting.text(2, "utterance.translation", "es")
    assert_heard("a peer, es", meeting.heard[2], "es", said)
    transcript = meeting.text(2, "utterance.transcript", "en")
    wrong = scoring.word_error_rate([meeting.said[2].text], [transcript], "en")
    assert wrong <= MOST_WORDS_WRONG, transcript


def test_a_moderator_mutes_one_and_removes_another(meeting):
    assert (meeting.muted["identity"], meeting.muted["muted"]) == ("alice", True)
    assert "removed" in meeting.removed


def test_an_invitation_has_room_and_role_and_no_token(meeting):
    assert "kind=conference" in meeting.invitation and "role=speaker" in meeting.invitation
    assert "token" not in meeting.invitation and "key" not in meeting.invitation


def test_that_the_room_is_over_is_said(meeting):
    assert "over" in meeting.over and "ended" in meeting.over


def test_nothing_went_wrong_within_the_page(meeting):
    assert meeting.errors == []


def test_a_conference_without_channels_is_not_begun(server, tmp_path):
    async def refuse() -> tuple[str, bool]:
        async with Browser(tmp_path, microphone=None) as browser:
            page = await browser.open(f"{server.url}/")
            await page.wait_for("!document.querySelector('#join-button').disabled")
            await page.click("#kind-conference")
            await page.type("#name", "Luisa")
            await page.evaluate(
                "document.querySelectorAll('#room-languages input:checked')"
                ".forEach((box) => box.click())"
            )
            await page.click("#join-button")
            message = await page.evaluate(
                "document.querySelector('#room-languages input').validationMessage"
            )
            return message, await page.evaluate("document.querySelector('#conference').hidden")

    message, is_hidden = asyncio.run(refuse())
    assert "channel" in message
    assert is_hidden
