"""The measuring instruments themselves, without the server: what they get wrong, every other test
here would get wrong."""

import asyncio

import numpy as np
import pytest

from harness import prompts, recogniser, scoring, signals
from harness.peer import Peer, rtp_after


def test_a_seed_draws_the_same_different_prompts_again():
    drawn = prompts.draw("en", "es", 8, seed=1)
    assert drawn == prompts.draw("en", "es", 8, seed=1)
    assert drawn != prompts.draw("en", "es", 8, seed=2)
    assert len({prompt.reference for prompt in drawn}) == 8
    assert all(2 <= prompt.duration_s <= 6 for prompt in drawn)


def test_a_recording_is_decoded_at_its_full_length():
    prompt = prompts.draw("en", "es", 1, seed=1)[0]
    samples = prompt.samples()
    assert len(samples) == pytest.approx(prompt.duration_s * prompts.SAMPLE_RATE, rel=0.01)
    assert np.abs(samples).max() > 3000


@pytest.mark.parametrize(("language", "other"), [("en", "es"), ("es", "en")])
def test_the_recogniser_understands_the_recordings(language, other):
    drawn = prompts.draw(language, other, 4, seed=3)
    texts = [recogniser.transcribe(prompt.samples(), language) for prompt in drawn]
    assert scoring.word_error_rate([p.text for p in drawn], texts, language) < 0.2, texts


def test_numbers_case_accents_and_punctuation_do_not_count():
    assert scoring.normalise("¡Presione 2, Señor!", "es") == "presione dos senor"
    assert scoring.normalise("Don't press 21.", "en") == "dont press twenty one"
    assert scoring.word_error_rate(["Press one, please."], ["press 1 please"], "en") == 0


def test_a_wrong_word_counts_once_in_the_corpus():
    assert scoring.word_error_rate(["a b c d", "e"], ["a b x d", "e"], "en") == pytest.approx(0.2)


def test_chrf_tells_a_translation_from_something_else():
    reference = ["La conferencia no puede ser extendida."]
    assert scoring.chrf(reference, ["La conferencia no puede extenderse."], "es") > 60
    assert scoring.chrf(reference, ["Los monos comen nuestro teléfono."], "es") < 30


def test_rtp_timestamps_are_compared_across_the_wrap():
    assert rtp_after(5, 2**32 - 5) == 10
    assert rtp_after(2**32 - 5, 5) == -10


def test_a_dtmf_key_has_its_two_tones():
    tone = signals.dtmf("5", tone_s=1.0, gap_s=0.0).astype(float)
    strongest = np.argsort(np.abs(np.fft.rfft(tone)))[-2:]
    assert sorted(strongest) == [770, 1336]


def test_two_peers_hear_each_other_and_agree_on_timestamps():
    prompt = prompts.draw("en", "es", 1, seed=5)[0]

    async def call():
        async with Peer() as one, Peer() as other:
            await one.connect(other.answer)
            await asyncio.sleep(0.5)
            spoken = prompt.samples()
            await one.say(spoken)
            await other.hear_out(quiet_s=0.6, timeout_s=20)
            return spoken, one.log, other.log

    spoken, sender, receiver = asyncio.run(call())
    heard = receiver.heard()
    assert np.abs(heard).max() > 0.5 * np.abs(spoken).max()
    text = recogniser.transcribe(heard, "en")
    assert scoring.word_error_rate([prompt.text], [text], "en") < 0.2, text

    # Every packet is found by its timestamp on both sides, and crosses in no time.
    middle = receiver.arrived[len(receiver.arrived) // 2].rtp_timestamp
    assert 0 <= receiver.arrived_at(middle) - sender.sent_at(middle) < 0.04
    # An instant within a packet belongs to that packet.
    assert sender.sent_at(middle + 959) == sender.sent_at(middle)
