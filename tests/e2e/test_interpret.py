"""The same stages over a file, without a network: `dragoman interpret`."""

import json
import subprocess
import wave

import numpy as np
import pytest

from harness import prompts, recogniser, scoring, signals
from harness.server import program

STAGES = ("speech_ms", "transcribe_ms", "translate_ms", "speak_ms")


def interpret(*arguments: str, timeout_s: float = 240) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(program()), "interpret", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


def write_wav(path, samples):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(prompts.SAMPLE_RATE)
        file.writeframes(samples.tobytes())
    return path


@pytest.fixture(scope="module")
def three_sentences(seed):
    """Prompts without a pause inside, so that each is one utterance."""
    drawn = prompts.draw("en", "es", 40, seed)
    return [prompt for prompt in drawn if prompt.is_one_breath][:3]


@pytest.fixture(scope="module")
def a_long_file(three_sentences, tmp_path_factory):
    parts = [signals.silence(1)]
    for prompt in three_sentences:
        parts += [prompt.samples(), signals.silence(2)]
    return write_wav(tmp_path_factory.mktemp("audio") / "long.wav", np.concatenate(parts))


def test_a_long_file_is_one_json_object_with_an_utterance_for_each_sentence(
    a_long_file, three_sentences, tmp_path
):
    out = tmp_path / "out.wav"
    result = interpret(a_long_file, "--from", "en", "--to", "es", "--out", out, "--json")
    assert result.returncode == 0, result.stderr

    # One object, and nothing else on standard output.
    story = json.loads(result.stdout)
    assert set(story) == {"utterances"}
    utterances = story["utterances"]
    assert len(utterances) == len(three_sentences), utterances

    end_ms = 0
    for prompt, utterance in zip(three_sentences, utterances, strict=True):
        assert set(utterance) >= {
            *("start_ms", "end_ms", "language", "transcript", "translation", "trace")
        }
        assert end_ms <= utterance["start_ms"] < utterance["end_ms"]
        end_ms = utterance["end_ms"]
        assert utterance["language"] == "en"
        assert all(utterance["trace"][stage] >= 0 for stage in STAGES), utterance["trace"]
        assert all(name.endswith("_ms") for name in utterance["trace"])
        assert scoring.chrf([prompt.reference], [utterance["translation"]], "es") > 20

    transcripts = [utterance["transcript"] for utterance in utterances]
    rate = scoring.word_error_rate([p.text for p in three_sentences], transcripts, "en")
    assert rate < 0.2, transcripts

    heard = recogniser.transcribe(prompts.decode(out), "es")
    translation = " ".join(utterance["translation"] for utterance in utterances)
    assert scoring.word_error_rate([translation], [heard], "es") < 0.3, (translation, heard)


def test_the_language_is_detected_when_asked(seed, tmp_path):
    prompt = max(prompts.draw("es", "en", 10, seed), key=lambda prompt: prompt.duration_s)
    path = write_wav(tmp_path / "es.wav", prompt.samples())
    result = interpret(path, "--from", "auto", "--to", "en", "--json")
    assert result.returncode == 0, result.stderr
    utterances = json.loads(result.stdout)["utterances"]
    assert {utterance["language"] for utterance in utterances} == {"es"}, utterances


def test_without_json_the_sentence_and_its_translation_are_printed(three_sentences, tmp_path):
    path = write_wav(tmp_path / "en.wav", three_sentences[0].samples())
    result = interpret(path, "--from", "en", "--to", "es")
    assert result.returncode == 0, result.stderr
    printed = set(scoring.normalise(result.stdout, "en").split())
    words = set(scoring.normalise(three_sentences[0].text, "en").split())
    assert len(words & printed) >= len(words) / 2, result.stdout


def test_a_file_that_is_no_audio_is_named_in_the_error(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("this is a text, and no sound\n" * 100)
    result = interpret(path, "--from", "en", "--to", "es", "--json")
    assert result.returncode != 0
    assert result.stdout == ""
    assert "notes.txt" in result.stderr
    assert "panicked" not in result.stderr


def test_a_file_that_is_missing_is_named_in_the_error(tmp_path):
    result = interpret(tmp_path / "missing.wav", "--from", "en", "--to", "es")
    assert result.returncode != 0
    assert "missing.wav" in result.stderr


def test_an_unknown_language_is_named_in_the_error(a_long_file):
    result = interpret(a_long_file, "--from", "en", "--to", "xx")
    assert result.returncode != 0
    assert "xx" in result.stderr
    assert "panicked" not in result.stderr


def test_a_file_without_speech_has_no_utterances(tmp_path):
    path = write_wav(tmp_path / "silence.wav", signals.silence(5))
    result = interpret(path, "--from", "en", "--to", "es", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {"utterances": []}
