"""Argos packages with random weights: what the real LibreTranslate says with them is gibberish, but
how it says it (statuses, shapes, headers, words of errors) is the real thing, without a download.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import sentencepiece
from ctranslate2.specs import common_spec, transformer_spec

WIDTH, HEADS, INNER, LAYERS = 32, 4, 64, 1
TEXT = (
    "The meeting has been moved to Thursday afternoon. La reunión se ha aplazado hasta el jueves.",
    "Where is the nearest train station? ¿Dónde está la estación de tren más cercana?",
    "HELLO World, hola mundo! <b>good</b> morning & buenos días 0123456789",
)
VOCABULARY = 96
NAMES = {"en": "English", "es": "Spanish"}


def install(folder: Path, *pairs: tuple[str, str]) -> None:
    """Puts a package for each pair into the folder `argos-translate/packages` of `folder`."""
    tokenizer = train_tokenizer()
    pieces = sentencepiece.SentencePieceProcessor(model_proto=tokenizer)
    words = [pieces.id_to_piece(index) for index in range(pieces.get_piece_size())]
    for source, target in pairs:
        package = folder / "argos-translate" / "packages" / f"translate-{source}_{target}-1_0"
        package.mkdir(parents=True)
        (package / "sentencepiece.model").write_bytes(tokenizer)
        metadata = {
            "package_version": "1.0",
            "argos_version": "1.9",
            "from_code": source,
            "from_name": NAMES[source],
            "to_code": target,
            "to_name": NAMES[target],
        }
        (package / "metadata.json").write_text(json.dumps(metadata))
        write_model(package / "model", words)


def train_tokenizer() -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT * 20),
        model_writer=model,
        vocab_size=VOCABULARY,
        model_type="unigram",
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return model.getvalue()


def write_model(folder: Path, words: list[str]) -> None:
    """A Transformer of one layer whose weights are noise."""
    noise = np.random.default_rng(1)
    spec = transformer_spec.TransformerSpec.from_config(
        (LAYERS, LAYERS), HEADS, pre_norm=False, activation=common_spec.Activation.RELU
    )

    def linear(layer, outputs: int, inputs: int) -> None:
        layer.weight = noise.standard_normal((outputs, inputs)).astype(np.float32)
        layer.bias = np.zeros(outputs, np.float32)

    def norm(layer) -> None:
        layer.gamma, layer.beta = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)

    table = noise.standard_normal((len(words), WIDTH)).astype(np.float32)
    for side in (spec.encoder, spec.decoder):
        side.scale_embeddings = True
        side.position_encodings.encodings = noise.standard_normal((512, WIDTH)).astype(np.float32)
        for layer in side.layer:
            linear(layer.self_attention.linear[0], 3 * WIDTH, WIDTH)
            linear(layer.self_attention.linear[1], WIDTH, WIDTH)
            norm(layer.self_attention.layer_norm)
            if side is spec.decoder:
                linear(layer.attention.linear[0], WIDTH, WIDTH)
                linear(layer.attention.linear[1], 2 * WIDTH, WIDTH)
                linear(layer.attention.linear[2], WIDTH, WIDTH)
                norm(layer.attention.layer_norm)
            linear(layer.ffn.linear_0, INNER, WIDTH)
            linear(layer.ffn.linear_1, WIDTH, INNER)
            norm(layer.ffn.layer_norm)
    spec.encoder.embeddings[0].weight = table
    spec.decoder.embeddings.weight = table
    linear(spec.decoder.projection, len(words), WIDTH)
    spec.register_source_vocabulary(words)
    spec.register_target_vocabulary(words)
    spec.validate()
    spec.optimize(quantization="int8")
    folder.mkdir()
    spec.save(str(folder))
