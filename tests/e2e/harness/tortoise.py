"""Checkpoints of a tiny Tortoise: networks with random weights, as PyTorch would save them. They
say no words, but all that is around words is as with real ones.

Shapes, and the rule by which the weights are drawn, are those of the reference values that the
models are tested with (inference/tests/fixtures/tortoise/README.md).
"""

from __future__ import annotations

import json
import struct
import subprocess
import zipfile
from math import prod
from pathlib import Path

import numpy as np

from harness.server import program

FIXTURES = Path(__file__).parents[3] / "inference/tests/fixtures/tortoise"
CHECKPOINTS = {"autoregressive": "autoregressive.pth", "hifigan": "hifidecoder.pth"}


def imported(folder: Path) -> Path:
    """A model that the program has imported, in `folder`."""
    checkpoints, model = folder / "checkpoints", folder / "tortoise"
    checkpoints.mkdir()
    for network, file in CHECKPOINTS.items():
        save(checkpoints / file, drawn(network))
    command = [str(program()), "models", "import-tortoise", str(checkpoints), "--out", str(model)]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert outcome.returncode == 0, outcome.stderr
    return model


def drawn(network: str) -> dict[str, np.ndarray]:
    """The weights of a network by their names."""
    with (FIXTURES / f"tortoise_{network}.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        about = json.loads(json.loads(file.read(length))["__metadata__"]["fixture"])
    weights = {}
    for name, shape, centre, spread in about["tensors"]:
        numbers = numbers_of(about["seed"], name, prod(shape), centre, spread)
        for index, value in about["overrides"].get(name, []):
            numbers[index] = value
        weights[name] = numbers.reshape(shape)
    return weights


def numbers_of(seed: int, name: str, count: int, centre: float, spread: float) -> np.ndarray:
    """SplitMix64, whose state starts as the FNV-1a hash of the seed and the name."""
    state = 0xCBF29CE484222325
    for byte in seed.to_bytes(8, "little") + name.encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        steps = np.arange(1, count + 1, dtype=np.uint64)
        bits = np.uint64(state) + steps * np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    upper = ((bits ^ (bits >> np.uint64(31))) >> np.uint64(40)).astype(np.int64)
    units = ((2 * upper + 1 - 2**24) / 2**24).astype(np.float32)
    return units * np.float32(spread) + np.float32(centre)


def save(path: Path, weights: dict[str, np.ndarray]) -> None:
    """An archive as `torch.save` writes it of a state dict."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(weights))
        for index, numbers in enumerate(weights.values()):
            archive.writestr(f"archive/data/{index}", numbers.astype("<f4").tobytes())


def pickled(weights: dict[str, np.ndarray]) -> bytes:
    """The instructions of protocol 2 that make the dictionary."""

    def text(value: str) -> bytes:
        encoded = value.encode()
        return b"X" + struct.pack("<I", len(encoded)) + encoded

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"

    empty = b"ccollections\nOrderedDict\n)R"
    pickle = b"\x80\x02" + empty + b"("
    for index, (name, tensor) in enumerate(weights.items()):
        strides = tuple(stride // tensor.itemsize for stride in tensor.strides)
        storage = (
            b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(str(index)) + text("cpu")
        )
        storage += b"J" + struct.pack("<i", tensor.size) + b"tQ"
        rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00"
        rebuilt += numbers(tensor.shape) + numbers(strides) + b"\x89" + empty + b"tR"
        pickle += text(name) + rebuilt
    return pickle + b"u."
