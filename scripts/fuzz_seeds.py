"""Seeds for the fuzz targets, made from real inputs and made small: fuzz_seeds.py MODELS CORPUS.

Model files are far too large to mutate. Their structure is kept and their numbers are thrown away:
every tensor shrinks to two in each dimension. What is not there (no models fetched, no recordings
installed) is left out; the targets run without seeds too.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import struct
import subprocess
import sys
import tarfile
import wave
import zipfile
from collections.abc import Iterator
from pathlib import Path

SMALLEST = 2
OFFER = """v=0
o=- 1 1 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0
m=audio 9 UDP/TLS/RTP/SAVPF 111 63
c=IN IP4 0.0.0.0
a=mid:0
a=sendrecv
a=ice-ufrag:abcd
a=ice-pwd:abcdefghijklmnopqrstuvwx
a=fingerprint:sha-256 {fingerprint}
a=setup:actpass
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:63 red/48000/2
a=candidate:1 1 udp 2130706431 127.0.0.1 50000 typ host
"""
VIDEO = """m=video 9 UDP/TLS/RTP/SAVPF 96
c=IN IP4 0.0.0.0
a=mid:1
a=rtpmap:96 VP8/90000
"""
TOKEN = {
    "iss": "dragoman",
    "sub": "ana",
    "name": "Ana",
    "room": "lobby",
    "language": "es",
    "grants": {"speak": True, "listen": True, "moderate": False},
    "iat": 1,
    "nbf": 1,
    "exp": 4_000_000_000,
}


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def fields(message: bytes) -> Iterator[tuple[int, int, bytes | int]]:
    """Number, wire type and value of each field of a protobuf message."""
    at = 0
    while at < len(message):
        key, at = read_varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = read_varint(message, at)
        else:
            if wire == 2:
                length, at = read_varint(message, at)
            else:
                length = {1: 8, 5: 4}[wire]
            value, at = message[at : at + length], at + length
        yield number, wire, value


def field(number: int, wire: int, value: bytes | int) -> bytes:
    key = varint(number << 3 | wire)
    if wire == 0:
        return key + varint(value)
    return key + (varint(len(value)) if wire == 2 else b"") + value


def small_tensor(tensor: bytes) -> bytes:
    """An ONNX TensorProto with short dimensions: dims are field 1, the type 2, bytes 9."""
    parts = list(fields(tensor))
    dims = []
    for number, wire, value in parts:
        if number == 1:
            dims += [value] if wire == 0 else _packed(value)
    width = {1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 9: 1, 10: 2}.get(
        next((value for number, _, value in parts if number == 2), 1), 4
    )
    dims = [min(dim, SMALLEST) for dim in dims]
    out = b"".join(field(1, 0, dim) for dim in dims)
    for number, wire, value in parts:
        if number == 1:
            continue
        if number == 9:
            value = value[: math.prod(dims) * width]
        out += field(number, wire, value)
    return out


def _packed(data: bytes) -> list[int]:
    values, at = [], 0
    while at < len(data):
        value, at = read_varint(data, at)
        values.append(value)
    return values


def small_onnx(model: bytes) -> bytes:
    """A ModelProto whose graph (field 7) has small initializers (field 5), and no notes about the
    shapes of values between nodes (field 13)."""
    out = b""
    for number, wire, value in fields(model):
        if number == 7:
            value = b"".join(
                field(n, w, small_tensor(v) if n == 5 else v)
                for n, w, v in fields(value)
                if n != 13
            )
        out += field(number, wire, value)
    return out


def small_ct2(path: Path) -> bytes:
    """CTranslate2's model.bin with small variables."""
    out = bytearray()
    with path.open("rb") as file:

        def take(layout: str) -> int:
            raw = file.read(struct.calcsize(layout))
            out.extend(raw)
            return struct.unpack(layout, raw)[0]

        def string() -> None:
            out.extend(file.read(take("<H")))

        take("<I")
        string()
        take("<I")
        for _ in range(take("<I")):
            string()
            shape = [struct.unpack("<I", file.read(4))[0] for _ in range(take("<B"))]
            code = file.read(1)
            (length,) = struct.unpack("<I", file.read(4))
            width = {0: 4, 1: 1, 2: 2, 3: 4, 4: 2, 5: 2}[code[0]]
            small = [min(dim, SMALLEST) for dim in shape]
            data = file.read(length)[: math.prod(small) * width]
            for dim in small:
                out.extend(struct.pack("<I", dim))
            out.extend(code + struct.pack("<I", len(data)) + data)
        out.extend(file.read())
    return bytes(out)


def safetensors() -> bytes:
    names = [
        "encoder.conv1.weight",
        "decoder.embed_tokens.weight",
        "encoder.embed_positions.weight",
        *(f"encoder.layers.0.self_attn.{part}_proj.weight" for part in "qkv"),
        *(f"encoder.layers.0.self_attn.{part}_proj.bias" for part in "qv"),
        *(f"decoder.layers.0.encoder_attn.{part}_proj.weight" for part in "kv"),
        "encoder.layers.0.fc1.weight",
    ]
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name in names:
        shape = [2] if name.endswith("bias") else [2, 2]
        size = 4 * math.prod(shape)
        header[f"model.{name}"] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(at)


def gguf() -> bytes:
    """A Qwen2 of one block and a few tokens, every matrix in f32."""
    width, inner = 4, 4
    tokens = ["a", "b", "<|im_start|>", "<|im_end|>"]

    def text(value: str) -> bytes:
        raw = value.encode()
        return struct.pack("<Q", len(raw)) + raw

    def strings(values: list[str]) -> bytes:
        return struct.pack("<IIQ", 9, 8, len(values)) + b"".join(map(text, values))

    def number(value: int) -> bytes:
        return struct.pack("<II", 4, value)

    pairs = {
        "general.architecture": struct.pack("<I", 8) + text("qwen2"),
        "general.alignment": number(32),
        "qwen2.block_count": number(1),
        "qwen2.context_length": number(8),
        "qwen2.embedding_length": number(width),
        "qwen2.feed_forward_length": number(inner),
        "qwen2.attention.head_count": number(2),
        "qwen2.attention.head_count_kv": number(1),
        "qwen2.attention.layer_norm_rms_epsilon": struct.pack("<If", 6, 1e-6),
        "qwen2.rope.freq_base": struct.pack("<If", 6, 1e4),
        "tokenizer.ggml.model": struct.pack("<I", 8) + text("gpt2"),
        "tokenizer.ggml.pre": struct.pack("<I", 8) + text("qwen2"),
        "tokenizer.ggml.tokens": strings(tokens),
        "tokenizer.ggml.token_type": struct.pack("<IIQ4i", 9, 5, 4, 1, 1, 3, 3),
        "tokenizer.ggml.merges": strings(["a b"]),
        "tokenizer.ggml.eos_token_id": number(3),
    }
    shapes = {"token_embd.weight": [width, len(tokens)], "output_norm.weight": [width]}
    for part, rows in {"q": width, "k": 2, "v": 2}.items():
        shapes[f"blk.0.attn_{part}.weight"] = [width, rows]
        shapes[f"blk.0.attn_{part}.bias"] = [rows]
    shapes["blk.0.attn_output.weight"] = [width, width]
    for part in ("attn_norm", "ffn_norm"):
        shapes[f"blk.0.{part}.weight"] = [width]
    for part in ("ffn_gate", "ffn_up", "ffn_down"):
        shapes[f"blk.0.{part}.weight"] = [width, inner]
    out = struct.pack("<4sIQQ", b"GGUF", 3, len(shapes), len(pairs))
    for key, value in pairs.items():
        out += text(key) + value
    at = 0
    for name, shape in shapes.items():
        out += text(name) + struct.pack("<I", len(shape))
        out += b"".join(struct.pack("<Q", dim) for dim in shape)
        out += struct.pack("<IQ", 0, at)
        at += -(-4 * math.prod(shape) // 32) * 32
    return out + bytes(-len(out) % 32) + bytes(at)


def recordings() -> Iterator[tuple[str, bytes]]:
    """A tenth of a second of a tone in every container that is read."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(range(256)) * 8)
    yield "plain.wav", buffer.getvalue()
    tone = ["-f", "lavfi", "-i", "sine=frequency=440:duration=0.1"]
    for name, arguments in {
        "float.wav": ["-c:a", "pcm_f32le", "-ac", "2"],
        "adpcm.wav": ["-c:a", "adpcm_ms"],
        "tone.flac": [],
        "tone.mp3": [],
        "vorbis.ogg": ["-c:a", "libvorbis"],
        "opus.ogg": ["-c:a", "libopus"],
        "tone.m4a": ["-c:a", "aac", "-movflags", "+faststart"],
    }.items():
        container = ["-f", {"m4a": "ipod"}.get(name.rsplit(".", 1)[1], name.rsplit(".", 1)[1])]
        seekable = f"/tmp/fuzz-seed-{name}"
        command = [
            "ffmpeg",
            "-nostdin",
            "-v",
            "error",
            "-y",
            *tone,
            *arguments,
            *container,
            seekable,
        ]
        if subprocess.run(command, check=False).returncode == 0:
            yield name, Path(seekable).read_bytes()
        Path(seekable).unlink(missing_ok=True)


def archives() -> Iterator[tuple[str, bytes]]:
    members = {"x/one": b"1" * 50, "x/two": b"22"}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    yield "wheel", buffer.getvalue()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    yield "package", gzip.compress(buffer.getvalue(), mtime=0)


FRAGMENT = """a=ice-ufrag:EsAw
a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1
m=audio 9 UDP/TLS/RTP/SAVPF 0
a=mid:0
a=candidate:1 1 UDP 2130706431 192.0.2.1 3500 typ host
a=candidate:2 1 udp 1694498815 2001:db8::1 8998 typ srflx raddr :: rport 0
a=end-of-candidates
"""


def seeds(models: Path) -> Iterator[tuple[str, str, bytes]]:
    """Target, name and bytes."""
    fingerprint = ":".join(["AB"] * 32)
    audio = OFFER.format(fingerprint=fingerprint)
    yield "offer", "audio", audio.replace("\n", "\r\n").encode()
    yield "offer", "video", (audio + VIDEO).replace("\n", "\r\n").encode()
    yield "fragment", "restart", FRAGMENT.replace("\n", "\r\n").encode()
    yield "token", "participant", json.dumps(TOKEN).encode()
    yield "token", "admin", json.dumps(TOKEN | {"admin": True, "room": None}).encode()
    yield "whisper_safetensors", "small", safetensors()
    yield "gguf", "small", gguf()
    yield "kokoro_onnx", "vocabulary", json.dumps({"vocab": {"a": 43, " ": 16}}).encode()
    for name, content in recordings():
        yield "audio_file", name, content
        if name == "plain.wav":
            yield "wav_head", name, content
    for name, content in archives():
        yield "archive", name, content
    root = Path(__file__).resolve().parent.parent
    yield "manifest", "built-in", (root / "inference/models.toml").read_bytes()
    checkpoint = root / "inference/tests/fixtures/tortoise/checkpoint.pth"
    yield "tortoise_checkpoint", "checkpoint", checkpoint.read_bytes()
    with zipfile.ZipFile(checkpoint) as archive:
        yield "tortoise_checkpoint", "pickle", archive.read("checkpoint/data.pkl")
    for target, name, shrink in (
        (
            "vad_onnx",
            "silero-vad/silero_vad_16k_op15.onnx",
            lambda path: path.read_bytes()[:60_000],
        ),
        ("vad_onnx", "silero-vad/silero_vad_16k_op15.onnx", lambda p: small_onnx(p.read_bytes())),
        ("kokoro_onnx", "kokoro-82m/kokoro-v1.0.int8.onnx", lambda p: small_onnx(p.read_bytes())),
        ("whisper_ct2", "whisper-base/model.bin", small_ct2),
    ):
        if (models / name).exists():
            content = shrink(models / name)
            yield target, f"{len(content)}-{Path(name).name}", content


def main() -> None:
    models, corpus = map(Path, sys.argv[1:])
    for target, name, content in seeds(models):
        folder = corpus / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    main()
