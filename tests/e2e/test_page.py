"""The page in a real browser: one person holds the call from the page, the other on an independent
WebRTC stack. What is said must be read and heard on both sides."""

import asyncio
from dataclasses import dataclass, field

import numpy as np
import pytest

from harness import call, prompts, recogniser, scoring, signals
from harness.browser import Browser, Page
from harness.events import Event
from harness.peer import Peer
from harness.server import Api

# How well sentences are translated is judged over many of them in test_call; here the same few are
# said each time, so that what fails is the page.
ENGLISH = ("confbridge-lock-no-join", "vm-sorry")
SPANISH = ("confbridge-only-one", "conf-nonextended")
LOWEST_CHRF = 45
HIGHEST_WORD_ERROR_RATE = 0.20

# The browser's microphone begins when it is opened: time for the page to join.
LEAD_S = 5.0
# Long enough that one sentence is mostly interpreted before the next is said.
BETWEEN_S = 3.0
TAIL_S = 120.0

SOUND = "#sound-interpretation"

# What the page does not keep by itself: where its session is, and which texts were partial.
WATCH = """
window.sessions = [];
const plainFetch = window.fetch;
window.fetch = async (...request) => {
  const answer = await plainFetch(...request);
  const location = answer.headers.get("Location");
  if (String(request[0]).endsWith("/sessions")) window.sessions.push(location);
  return answer;
};
window.partials = [];
new MutationObserver(() => {
  for (const text of document.querySelectorAll(".partial:not([hidden])")) {
    window.partials.push(text.textContent);
  }
}).observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
"""
CAPTIONS = """
[...document.querySelectorAll("#captions .caption")].map((caption) => {
  const text = (part) => caption.querySelector(`${part}:not([hidden])`)?.textContent ?? "";
  return {
    mine: caption.classList.contains("mine"),
    speaker: text(".speaker"), lead: text(".lead"), second: text(".second"), note: text(".note"),
    lag: text(".total"), stages: caption.querySelectorAll(".lag .bar .stage").length,
  };
})
"""


@dataclass
class PageCall:
    """A call that is over."""

    english: list[prompts.Prompt]
    spanish: list[prompts.Prompt]
    captions: list[dict] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    partials: list[str] = field(default_factory=list)
    people: str = ""
    headline: str = ""
    heard_by_peer: np.ndarray | None = None
    heard_by_page: np.ndarray | None = None
    third: str = ""
    rejoined: bool = False
    farewell: str = ""
    errors: list[str] = field(default_factory=list)

    def captions_of(self, mine: bool, line: str) -> str:
        return " ".join(c[line] for c in self.captions if c["mine"] == mine)

    def told(self, kind: str, speaker_is_page: bool) -> list[Event]:
        return [
            event
            for event in self.events
            if event.type == kind and (event["speaker"] != "beto") == speaker_is_page
        ]


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def a_call(server, output) -> PageCall:
    english, spanish = sentences("en", "es", ENGLISH), sentences("es", "en", SPANISH)
    held = PageCall(english, spanish)
    asyncio.run(hold(server, held, output))
    print(f"screenshots and recordings: {output}")
    for caption in held.captions:
        print(caption)
    return held


def sentences(language: str, reference_language: str, names) -> list[prompts.Prompt]:
    known = {prompt.name: prompt for prompt in prompts.pool(language, reference_language)}
    return [known[name] for name in names]


def one_after_the_other(said: list[prompts.Prompt]) -> np.ndarray:
    return np.concatenate(
        [part for prompt in said for part in (prompt.samples(), signals.silence(BETWEEN_S))]
    )


async def fill_in(page: Page, name: str, language: str) -> None:
    await page.wait_for("!document.querySelector('#join-button').disabled")
    await page.type("#name", name)
    await page.choose("#language", language)


async def hold(server, held: PageCall, output) -> None:
    room = "page-in-a-browser"
    speech = [
        signals.silence(LEAD_S),
        one_after_the_other(held.english),
        signals.silence(TAIL_S),
    ]
    microphone = signals.write_wav(output / "microphone.wav", np.concatenate(speech))
    async with (
        Api(server) as api,
        Browser(output, microphone=microphone) as browser,
        Peer() as beto,
    ):
        # The page's part is done without a key; so is this one's.
        reply = await api.request(
            "POST",
            "/v1/development/tokens",
            json={"room": room, "identity": "beto", "name": "Beto", "language": "es"},
        )
        assert reply.status == 201, reply.text
        token = reply.json["token"]
        async with api.events(room, token) as events:
            await beto.connect(api.answerer(room, token))
            page = await browser.open(f"{server.url}/?room={room}", script=WATCH)
            await page.look(width=1280, height=800)
            await fill_in(page, "Anna", "en")
            assert not await page.evaluate("document.querySelector('#access').offsetParent")
            await page.choose("#voice", "af_bella")
            await page.screenshot(output / "lobby-light.png")
            await page.click("#join-button")
            await page.wait_for("document.querySelector('#state')?.dataset.kind === 'good'")
            await page.record(SOUND)

            # Anna speaks on the page, Beto hears her in Spanish.
            before = len(beto.log.arrived)
            await utterances_are_over(events, len(ENGLISH), by_page=True)
            await beto.hear_out(quiet_s=call.HEARD_OUT_S, timeout_s=call.SENTENCE_TIMEOUT_S)
            held.heard_by_peer = beto.log.heard(beto.log.arrived[before].rtp_timestamp)

            # Beto answers, and Anna hears him in English.
            await beto.say(one_after_the_other(held.spanish))
            await utterances_are_over(events, len(SPANISH), by_page=False)
            await page.hear_out(SOUND)
            (output / "heard.webm").write_bytes(await page.recorded())
            held.heard_by_page = prompts.decode(output / "heard.webm")

            held.captions = await page.evaluate(CAPTIONS)
            held.partials = await page.evaluate("window.partials")
            held.people = await page.evaluate("document.querySelector('#people').innerText")
            held.headline = await page.evaluate(
                "document.querySelector('#lag-headline').textContent"
            )
            await take_pictures(page, output)

            # A third one does not fit in.
            third = await browser.open(f"{server.url}/?room={room}")
            await fill_in(third, "Carla", "en")
            await third.click("#join-button")
            held.third = await third.wait_for("document.querySelector('#join-error').textContent")

            # The server loses the page, which comes back by itself; then the call is ended.
            told = len(events.events)
            (session,) = await page.evaluate("window.sessions")
            lost = await api.request("DELETE", session, bearer=server.api_key)
            assert lost.status == 200, lost.text
            await events.wait_for(
                lambda event: event.type == "participant.joined", after=told, timeout_s=20
            )
            await page.wait_for("document.querySelector('#state').dataset.kind === 'good'")
            held.rejoined = True
            await api.delete_room(room)
            held.farewell = await page.wait_for("document.querySelector('#farewell').textContent")
            held.events = list(events.events)
            held.errors = page.errors + third.errors


async def utterances_are_over(events, count: int, *, by_page: bool) -> None:
    """Waits until so many utterances of one side were spoken, and whatever else began is over."""

    def spoken() -> int:
        told = events.of_type("utterance.spoken")
        return sum((event["speaker"] != "beto") == by_page for event in told)

    async def wait() -> None:
        while spoken() < count:
            await asyncio.sleep(0.1)

    try:
        await asyncio.wait_for(wait(), call.SENTENCE_TIMEOUT_S)
    except TimeoutError:
        told = [event.body for event in events.events]
        raise TimeoutError(f"{spoken()} of {count} utterances were spoken: {told}") from None
    await events.settle(quiet_s=call.PAUSE_S, timeout_s=call.SENTENCE_TIMEOUT_S)


async def take_pictures(page: Page, output) -> None:
    await page.evaluate("document.querySelector('.caption details').open = true")
    for name, width, height, dark in [
        ("call-light", 1280, 800, False),
        ("call-dark", 1280, 800, True),
        ("call-phone-light", 390, 844, False),
        ("call-phone-dark", 390, 844, True),
    ]:
        await page.look(width=width, height=height, dark=dark)
        await page.screenshot(output / f"{name}.png")


def test_the_page_reads_what_was_said_on_it(a_call):
    texts = [prompt.text for prompt in a_call.english]
    shown = a_call.captions_of(mine=True, line="lead")
    assert scoring.word_error_rate([" ".join(texts)], [shown], "en") < HIGHEST_WORD_ERROR_RATE


def test_the_page_reads_what_the_other_side_said_in_its_own_language(a_call):
    reference = " ".join(prompt.reference for prompt in a_call.spanish)
    shown = a_call.captions_of(mine=False, line="lead")
    assert scoring.chrf([reference], [shown], "en") >= LOWEST_CHRF, (reference, shown)
    original = a_call.captions_of(mine=False, line="second")
    said = " ".join(prompt.text for prompt in a_call.spanish)
    assert scoring.chrf([said], [original], "es") >= LOWEST_CHRF, (said, original)
    assert {c["speaker"] for c in a_call.captions} == {"You", "Beto"}


def test_the_other_side_hears_what_was_said_on_the_page(a_call):
    reference = " ".join(prompt.reference for prompt in a_call.english)
    translation = a_call.captions_of(mine=True, line="second")
    heard = recogniser.transcribe(a_call.heard_by_peer, "es")
    print(f"translated {translation!r}, heard {heard!r}")
    assert scoring.chrf([reference], [heard], "es") >= LOWEST_CHRF, (reference, heard)
    rate = scoring.word_error_rate([translation], [heard], "es")
    assert rate < HIGHEST_WORD_ERROR_RATE, (translation, heard)


def test_the_page_plays_what_the_other_side_said(a_call):
    reference = " ".join(prompt.reference for prompt in a_call.spanish)
    translation = a_call.captions_of(mine=False, line="lead")
    heard = recogniser.transcribe(a_call.heard_by_page, "en")
    print(f"translated {translation!r}, heard {heard!r}")
    assert scoring.chrf([reference], [heard], "en") >= LOWEST_CHRF, (reference, heard)
    rate = scoring.word_error_rate([translation], [heard], "en")
    assert rate < HIGHEST_WORD_ERROR_RATE, (translation, heard)


def test_each_utterance_shows_its_lag_by_stage(a_call):
    told = a_call.told("utterance.spoken", True) + a_call.told("utterance.spoken", False)
    lags = sorted(f"{event['trace']['lag_ms'] / 1000:.1f} s" for event in told)
    assert sorted(c["lag"] for c in a_call.captions) == lags
    assert all(c["stages"] == 6 for c in a_call.captions)
    assert f"median of {len(lags)}" in a_call.headline


def test_partial_texts_are_shown_where_the_server_tells_them(a_call):
    told = [event["text"] for event in a_call.events if event.type == "utterance.partial"]
    shown = {text.strip() for text in a_call.partials}
    assert bool(shown) == bool(told), (told, shown)
    assert shown <= {text.strip() for text in told}


def test_the_page_shows_who_is_there_and_the_voice_asked_for_is_known(a_call):
    assert "Beto" in a_call.people and "Spanish" in a_call.people
    joined = [event["participant"] for event in a_call.events if "participant" in event.body]
    anna = next(person for person in joined if person["name"] == "Anna")
    assert (anna["language"], anna["hear"], anna["voice"]) == ("en", "en", "af_bella")


def test_a_third_one_reads_that_the_room_is_full(a_call):
    assert "full" in a_call.third


def test_the_page_joins_again_by_itself_and_is_told_when_the_call_is_ended(a_call):
    assert a_call.rejoined
    assert "ended" in a_call.farewell


def test_nothing_went_wrong_within_the_page(a_call):
    assert a_call.errors == []


def test_without_a_microphone_the_page_says_how_to_allow_it(server, tmp_path):
    async def refuse() -> str:
        async with Browser(tmp_path, microphone=None) as browser:
            page = await browser.open(f"{server.url}/")
            await fill_in(page, "Anna", "en")
            await page.click("#join-button")
            return await page.wait_for("document.querySelector('#join-error').textContent")

    assert "Allow it" in asyncio.run(refuse())


def test_the_page_is_served_with_a_policy_and_its_files_may_be_kept(server):
    async def get():
        async with Api(server) as api:
            index = await api.request("GET", "/")
            script = index.text.split('src="')[1].split('"')[0]
            return index, await api.request("GET", script)

    index, script = asyncio.run(get())
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    assert index.headers["cache-control"] == "no-cache"
    assert "default-src 'self'" in index.headers["content-security-policy"]
    assert script.status == 200
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert "immutable" in script.headers["cache-control"]
