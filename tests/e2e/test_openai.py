"""OpenAI's own client against our interface, and an independent recogniser on what it was given."""

from __future__ import annotations

import io
import re
import subprocess
import wave

import numpy as np
import openai
import pytest

from harness import prompts, recogniser, scoring, signals

PAUSE_S = 1.5
SPOKEN = "The train to the city leaves at nine in the morning. Please do not be late."
SPOKEN_RATE = 24_000


@pytest.fixture(scope="module")
def client(server) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{server.url}/v1", api_key=server.api_key, max_retries=0, timeout=120
    )


@pytest.fixture(scope="module")
def sentences(seed) -> list[prompts.Prompt]:
    drawn = prompts.draw("en", "es", 40, seed)
    return [prompt for prompt in drawn if prompt.is_one_breath][:2]


def wav(samples: np.ndarray, rate: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(samples.tobytes())
    return file.getvalue()


@pytest.fixture(scope="module")
def recording(sentences) -> tuple[str, bytes]:
    silence = signals.silence(PAUSE_S)
    first, second = (sentence.samples() for sentence in sentences)
    samples = np.concatenate([silence, first, silence, second, silence])
    return "two sentences.wav", wav(samples, prompts.SAMPLE_RATE)


def decoded(encoded: bytes, *input_options: str) -> np.ndarray:
    """By ffmpeg, which nobody here wrote: 48 kHz mono."""
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", *input_options, "-i", "-"]
    command += ["-f", "s16le", "-ac", "1", "-ar", str(prompts.SAMPLE_RATE), "-"]
    result = subprocess.run(command, input=encoded, check=True, stdout=subprocess.PIPE)
    return np.frombuffer(result.stdout, dtype=np.int16)


def assert_words(text: str, sentences) -> None:
    expected = " ".join(sentence.text for sentence in sentences)
    assert scoring.word_error_rate([expected], [text], "en") < 0.25, text


def test_a_recording_is_written_down(client, recording, sentences):
    transcription = client.audio.transcriptions.create(
        model="whisper-1", file=recording, language="en"
    )
    assert_words(transcription.text, sentences)
    text = client.audio.transcriptions.create(
        model="whisper-1", file=recording, response_format="text"
    )
    assert_words(text, sentences)


def test_segments_lie_where_the_sentences_were_spoken(client, recording, sentences):
    verbose = client.audio.transcriptions.create(
        model="whisper-1",
        file=recording,
        response_format="verbose_json",
        timestamp_granularities=["segment"],
    )
    assert verbose.language == "english"
    length = 3 * PAUSE_S + sum(sentence.duration_s for sentence in sentences)
    assert verbose.duration == pytest.approx(length, abs=0.05)
    assert len(verbose.segments) == 2, verbose.segments
    begins = PAUSE_S
    for segment, sentence in zip(verbose.segments, sentences, strict=True):
        assert begins - 0.1 <= segment.start < segment.end
        assert segment.end <= begins + sentence.duration_s + 0.3
        begins += sentence.duration_s + PAUSE_S
        assert segment.tokens
        assert segment.avg_logprob < 0 <= segment.no_speech_prob < 0.6
        assert 0.3 < segment.compression_ratio < 2.4


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_subtitles_are_what_a_player_takes(client, recording, sentences, form, tmp_path):
    subtitles = client.audio.transcriptions.create(
        model="whisper-1", file=recording, response_format=form
    )
    path = tmp_path / f"subtitles.{form}"
    path.write_text(subtitles)
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-i", str(path), "-f", "srt", "-"]
    read = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    words = [
        line for line in read.splitlines() if line and "-->" not in line and not line.isdigit()
    ]
    assert_words(" ".join(words), sentences)
    assert len(re.findall("-->", read)) == 2


def test_a_spanish_recording_is_translated_into_english(client, seed):
    spoken = max(prompts.draw("es", "en", 20, seed), key=lambda prompt: prompt.duration_s)
    file = ("es.wav", wav(spoken.samples(), prompts.SAMPLE_RATE))
    translation = client.audio.translations.create(model="whisper-1", file=file)
    assert scoring.chrf([spoken.reference], [translation.text], "en") > 20, translation.text


def test_speech_in_every_format_is_understood(client):
    for form, options in (
        ("wav", ()),
        ("opus", ()),
        ("pcm", ("-f", "s16le", "-ac", "1", "-ar", str(SPOKEN_RATE))),
    ):
        speech = client.audio.speech.create(
            model="tts-1", voice="alloy", input=SPOKEN, response_format=form
        )
        samples = decoded(speech.content, *options)
        assert 2.5 < len(samples) / prompts.SAMPLE_RATE < 9
        heard = recogniser.transcribe(samples, "en")
        assert scoring.word_error_rate([SPOKEN], [heard], "en") < 0.2, (form, heard)


def test_speech_is_streamed_and_a_named_voice_speaks_its_language(client, server):
    text = "Buenos días a todos. La reunión empieza a las nueve de la mañana."
    with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="ef_dora", input=text, response_format="wav"
    ) as response:
        assert response.headers["content-type"] == "audio/wav"
        assert response.headers["transfer-encoding"] == "chunked"
        speech = b"".join(response.iter_bytes())
    heard = recogniser.transcribe(decoded(speech), "es")
    assert scoring.word_error_rate([text], [heard], "es") < 0.3, heard


def test_errors_are_the_clients_own(client, recording, server):
    with pytest.raises(openai.BadRequestError) as refused:
        client.audio.speech.create(model="tts-1", voice="alloy", input="Hi.", response_format="mp3")
    assert refused.value.param == "response_format"
    with pytest.raises(openai.NotFoundError) as missing:
        client.audio.transcriptions.create(model="gpt-5", file=recording)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="Invalid file format"):
        text = b"this is a text, and no sound\n" * 100
        client.audio.transcriptions.create(model="whisper-1", file=("notes.txt", text))
    with pytest.raises(openai.APIStatusError) as large:
        huge = ("huge.wav", bytes(26 << 20))
        client.audio.transcriptions.create(model="whisper-1", file=huge)
    assert large.value.status_code == 413
    stranger = openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()


def test_models_are_listed(client):
    names = {model.id for model in client.models.list()}
    assert {"whisper-1", "whisper-base", "tts-1", "kokoro"} <= names
