"""The peers, each used as well as it can be: short windows, kept prefixes, clause by clause."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import ctranslate2
import numpy as np
import onnxruntime
import ours
import xllamacpp
from faster_whisper import WhisperModel
from faster_whisper.feature_extractor import FeatureExtractor
from faster_whisper.tokenizer import Tokenizer
from kokoro_onnx import Kokoro

RATE = 16_000
# Silence after the speech in a short window, as ours has.
PAD_S = 2.0
FRAMES_PER_SECOND = 100
SHORTEST_CLAUSE = 12
LONGEST_FIRST_CLAUSE_WORDS = 8


class FasterWhisper:
    """As its users call it: it pads to 30 seconds."""

    def __init__(self) -> None:
        self.model = WhisperModel(
            str(ours.WHISPER),
            device="cpu",
            compute_type="int8",
            cpu_threads=1,
            local_files_only=True,
        )

    def transcribe(self, samples: np.ndarray) -> str:
        segments, _ = self.model.transcribe(samples, language="en", beam_size=1)
        return " ".join(segment.text.strip() for segment in segments)


class CTranslate2:
    """The engine under it, with a window as short as ours."""

    def __init__(self) -> None:
        path = str(ours.WHISPER)
        self.model = ctranslate2.models.Whisper(
            path, device="cpu", compute_type="int8", intra_threads=1, inter_threads=1
        )
        self.features = FeatureExtractor()
        whole = WhisperModel(path, device="cpu", compute_type="int8", local_files_only=True)
        self.tokenizer = Tokenizer(whole.hf_tokenizer, True, task="transcribe", language="en")

    def window(self, samples: np.ndarray) -> ctranslate2.StorageView:
        seconds = len(samples) / RATE + PAD_S
        padded = np.pad(samples, (0, int(PAD_S * RATE)))
        mel = self.features(padded)[:, : int(seconds * FRAMES_PER_SECOND)]
        return ctranslate2.StorageView.from_array(np.ascontiguousarray(mel[None]))

    def encode(self, window: ctranslate2.StorageView) -> ctranslate2.StorageView:
        return self.model.encode(window)

    def transcribe(self, samples: np.ndarray) -> str:
        encoded = self.encode(self.window(samples))
        prompt = [self.tokenizer.sot_sequence]
        result = self.model.generate(encoded, prompt, beam_size=1, max_length=200)
        ids = [token for token in result[0].sequences_ids[0] if token < self.tokenizer.eot]
        return self.tokenizer.decode(ids).strip()


class LlamaCpp:
    """A server in this process; the prefix of a prompt stays in its cache."""

    def __init__(self, threads: int) -> None:
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(ours.gguf())
        parameters.cpuparams.n_threads = threads
        parameters.cpuparams_batch.n_threads = threads
        parameters.n_ctx = 2048
        parameters.n_parallel = 1
        self.server = xllamacpp.Server(parameters)

    def complete(self, prompt: str, count: int) -> dict:
        """Its own account of a completion of exactly so many tokens."""
        request = {
            "prompt": prompt,
            "n_predict": count,
            "temperature": 0,
            "cache_prompt": True,
            "ignore_eos": True,
        }
        return self.server.handle_completions(request)["timings"]

    def stream(self, prompt: str, longest: int, take: Callable[[str], None]) -> None:
        """Hands over the pieces of a completion as they come."""
        request = {
            "prompt": prompt,
            "n_predict": longest,
            "temperature": 0,
            "cache_prompt": True,
            "stream": True,
            "stop": ["<|im_end|>"],
        }

        def each(chunk: dict) -> None:
            for choice in chunk.get("choices", []):
                take(choice.get("text", ""))

        self.server.handle_completions(request, each)


class KokoroOrt:
    """The published int8 graph on ONNX Runtime."""

    def __init__(self, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            str(next(ours.KOKORO.glob("*.onnx"))), options, providers=["CPUExecutionProvider"]
        )
        self.styles: dict[str, np.ndarray] = {}
        self.kokoro = Kokoro.from_session(session, str(_voices()))

    def style(self, voice: str) -> np.ndarray:
        if voice not in self.styles:
            path = ours.KOKORO / "voices" / f"{voice}.bin"
            table = np.fromfile(path, dtype="<f4")
            self.styles[voice] = table.reshape(-1, 1, 256)
        return self.styles[voice]

    def speak(self, language: str, text: str, voice: str) -> float:
        """Seconds of audio that it made."""
        samples, rate = self.kokoro.create(
            text, voice=self.style(voice), speed=1.0, lang={"en": "en-us"}.get(language, language)
        )
        return len(samples) / rate


def _voices() -> Path:
    """A file of voices as its loader wants one; what is spoken takes the real ones."""
    path = Path("/tmp") / f"bench-peers-voices-{time.time_ns()}.npz"
    np.savez(path, none=np.zeros((510, 1, 256), dtype=np.float32))
    return path


def first_clause(text: str) -> str | None:
    """The first clause of a growing text, once it is over; by the rule that ours has."""
    for space in re.finditer(" ", text):
        clause = text[: space.start()]
        if len(clause.strip()) < SHORTEST_CLAUSE:
            continue
        if clause[-1] in ".,;:!?…" or len(clause.split()) >= LONGEST_FIRST_CLAUSE_WORDS:
            return clause.strip()
    return None


class Chain:
    """A whole interpreter built from the peers: recognition in a short window, translation after
    a kept prefix, and each clause spoken on another thread while the next is translated."""

    def __init__(self, recogniser: CTranslate2, translator: LlamaCpp, voice: KokoroOrt) -> None:
        self.recogniser, self.translator, self.voice = recogniser, translator, voice

    def interpret(self, samples: np.ndarray, instruction: str, voice: str) -> dict:
        """Seconds from the end of the speech to each result, and the texts."""
        began = time.perf_counter()
        transcript = self.recogniser.transcribe(samples)
        transcribed = time.perf_counter() - began
        clauses: queue.Queue[str | None] = queue.Queue()
        first_sound: list[float] = []

        def speak() -> None:
            while (clause := clauses.get()) is not None:
                self.voice.speak("es", clause, voice)
                first_sound.append(time.perf_counter() - began)

        speaking = threading.Thread(target=speak)
        speaking.start()
        text, said = "", 0

        def take(piece: str) -> None:
            nonlocal text, said
            text += piece
            if clause := first_clause(text[said:]):
                clauses.put(clause)
                said += text[said:].index(clause) + len(clause)

        prompt = f"{instruction}<|im_start|>user\n{transcript}<|im_end|>\n<|im_start|>assistant\n"
        self.translator.stream(prompt, 4 * len(transcript.split()) + 16, take)
        if rest := text[said:].strip():
            clauses.put(rest)
        clauses.put(None)
        speaking.join()
        return {
            "transcribed": transcribed,
            "first_sound": first_sound[0],
            "transcript": transcript,
            "translation": text.strip(),
        }
