"""Reference audio for the tests of the Kokoro voice, by ONNX Runtime.

    pip install numpy onnx onnxruntime
    python voice_kokoro.py MODEL_DIR inference/tests/data/voice

The published graph quantises its activations on the fly. Here its weights are kept and the
arithmetic is f32, as in the engine under test: every quantised operator is replaced by the plain
one. `NAME.wav` (24 kHz) and `utterances.json` (tokens, voices, lengths) are written.
"""

import json
import pathlib
import sys
import wave

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

UTTERANCES = [
    (
        "es_greeting",
        "ef_dora",
        "bwˈenos ðˈias a tˈoðos,",
        [
            44,
            65,
            156,
            47,
            56,
            57,
            61,
            16,
            81,
            156,
            51,
            43,
            61,
            16,
            43,
            16,
            62,
            156,
            57,
            81,
            57,
            61,
            3,
        ],
    ),
    (
        "en_yes",
        "af_heart",
        "jˈɛs, ʌv kˈɔɹs.",
        [52, 156, 86, 61, 3, 16, 138, 64, 16, 53, 156, 76, 123, 61, 4],
    ),
]


def dequantise(model):
    graph = model.graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    consumers = {value: node for node in graph.node for value in node.input}
    replaced = {}

    def store(name, array):
        graph.initializer.append(
            numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name)
        )
        return name

    def plain_product(node):
        weight = node.input[1]
        scale = values[weight.removesuffix("quantized") + "scale"]
        array = (
            values[weight].astype(np.float32) - values[node.input[3]].astype(np.float32)
        ) * scale
        inputs = [producers[node.input[0]].input[0], store(node.name + ".f32", array)]
        last = consumers[node.output[0]]
        if last.op_type == "Add":
            bias = producers[next(i for i in last.input if producers[i].op_type == "Reshape")]
            while bias.op_type != "Div":
                bias = producers[bias.input[0]]
            inputs.append(bias.input[0])
        while last.op_type != "Mul":
            last = consumers[last.output[0]]
        kind = "Conv" if node.op_type == "ConvInteger" else "MatMul"
        return last.name, helper.make_node(kind, inputs, list(last.output)), node.attribute

    def plain_lstm(node):
        names = []
        for weight, scale, zero in ((1, 8, 9), (2, 10, 11)):
            array, factor, shift = (
                values[node.input[i]].astype(np.float32) for i in (weight, scale, zero)
            )
            shape = (array.shape[0], 1, -1)
            array = ((array - shift.reshape(shape)) * factor.reshape(shape)).transpose(0, 2, 1)
            names.append(store(node.input[weight] + ".f32", array))
        inputs = [node.input[0], *names, *node.input[3:7]]
        return node.name, helper.make_node("LSTM", inputs, list(node.output)), node.attribute

    for node in graph.node:
        if node.op_type in ("ConvInteger", "MatMulInteger"):
            name, plain, attributes = plain_product(node)
        elif node.op_type == "DynamicQuantizeLSTM":
            name, plain, attributes = plain_lstm(node)
        else:
            continue
        plain.attribute.extend(attributes)
        replaced[name] = plain
    nodes = [replaced.get(node.name, node) for node in graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def main():
    models, out = map(pathlib.Path, sys.argv[1:3])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # No fusion may hide what is compared.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    model = dequantise(onnx.load(models / "kokoro-v1.0.int8.onnx"))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    listing = []
    for name, voice, phonemes, tokens in UTTERANCES:
        table = np.fromfile(models / "voices" / f"{voice}.bin", "<f4").reshape(510, 1, 256)
        inputs = {
            "tokens": np.array([[0, *tokens, 0]]),
            "style": table[len(tokens) - 1],
            "speed": np.ones(1, np.float32),
        }
        samples = session.run(["audio"], inputs)[0]
        # The graph divides its first samples by almost nothing.
        samples[:20] = 0
        with wave.open(str(out / f"{name}.wav"), "wb") as file:
            file.setparams((1, 2, 24000, 0, "NONE", ""))
            file.writeframes((np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes())
        listing.append(
            {
                "name": name,
                "voice": voice,
                "phonemes": phonemes,
                "tokens": tokens,
                "samples": len(samples),
            }
        )
    (out / "utterances.json").write_text(json.dumps(listing, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
