"""The decoder as onnxruntime-genai opens it: a second graph over the package's own weights, and its settings.

genai gives a decoder token ids and an attention mask, where ours takes embeddings and lengths. So the graph begins with
the package's token embedding, counts the mask, and goes on as the decoder does; its weights are the entries that are in
the package already. Unzipped, the package is then a genai model folder for text. Checked with onnxruntime-genai 0.18.0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from alm.errors import ExportError
from alm.package import Manifest, section

GRAPH = "genai_decoder.onnx"


def genai_entries(manifest: Manifest, entries: Mapping[str, bytes | Path]) -> dict[str, bytes]:
    """What a package with these entries needs besides; ExportError unless onnxruntime runs its decoder."""
    components = manifest.for_engine("onnxruntime").components if "onnxruntime" in manifest.engines else {}
    if not {"token_embedding", "decoder"} <= components.keys():
        raise ExportError("--genai needs a model with a decoder on onnxruntime; leave it out, or add that engine")
    embedding, decoder = (entries[components[name].graph] for name in ("token_embedding", "decoder"))
    assert isinstance(embedding, bytes) and isinstance(decoder, bytes)
    model = _joined(onnx.load_model_from_string(embedding), onnx.load_model_from_string(decoder))
    tokenizer = {
        "tokenizer_class": "GPT2Tokenizer",
        "model_max_length": section(manifest.decoder, "decoder").max_positions,
    }
    return {
        GRAPH: model.SerializeToString(),
        "genai_config.json": json.dumps(_config(manifest), indent=1).encode(),
        "tokenizer_config.json": json.dumps(tokenizer, indent=1).encode(),
    }


def _joined(embedding: onnx.ModelProto, decoder: onnx.ModelProto) -> onnx.ModelProto:
    """Token ids and attention mask to the logits of the last position."""
    graph = decoder.graph
    present = {constant.name for constant in graph.initializer}
    graph.initializer.extend(c for c in embedding.graph.initializer if c.name not in present)
    for name, value in {"flat": [-1], "first": [0], "second": [1], "one": [1]}.items():
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), f"genai.{name}"))
    before = [
        _node("Reshape", ["input_ids", "genai.flat"], "genai.ids"),
        *_between(embedding.graph, {"ids": "genai.ids", "embeddings": "genai.embeddings"}),
        _node("Unsqueeze", ["genai.embeddings", "genai.first"], "embeddings"),
        _node("ReduceSum", ["attention_mask", "genai.second"], "genai.positions", keepdims=0),
        _node("Sub", ["genai.positions", "genai.one"], "genai.last"),
        _node("Cast", ["genai.last"], "last_position", to=TensorProto.INT32),
        _node("Squeeze", ["genai.positions"], "genai.total"),
        _node("Cast", ["genai.total"], "total_length", to=TensorProto.INT32),
        _node("Shape", ["genai.ids"], "genai.length"),
        _node("Sub", ["genai.length", "genai.one"], "rows"),
    ]
    nodes = [*before, *_between(graph, {"logits": "genai.logits"})]
    nodes.append(_node("Unsqueeze", ["genai.logits", "genai.first"], "logits"))
    caches = [value for value in graph.input if value.name.startswith("past_")]
    outputs = [value for value in graph.output if value.name != "logits"]
    vocabulary = next(value for value in graph.output if value.name == "logits").type.tensor_type.shape.dim[1].dim_value
    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, ("batch", "length")),
        helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ("batch", "positions")),
        *caches,
    ]
    outputs.insert(0, helper.make_tensor_value_info("logits", TensorProto.FLOAT, ("batch", 1, vocabulary)))
    joined = helper.make_graph(nodes, "genai_decoder", inputs, outputs, list(graph.initializer))
    return helper.make_model(
        joined, opset_imports=list(decoder.opset_import), ir_version=decoder.ir_version, producer_name="alm-edge"
    )


def _between(graph: onnx.GraphProto, renamed: Mapping[str, str]) -> list[onnx.NodeProto]:
    """The graph's nodes with some values renamed. What a node makes gets the graph's name, as two graphs are joined."""
    constants = {constant.name for constant in graph.initializer} | {""}
    ends = {value.name for value in (*graph.input, *graph.output)} - renamed.keys()

    def name(value: str) -> str:
        return value if value in constants | ends else renamed.get(value, f"{graph.name}.{value}")

    nodes = []
    for node in graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:], copy.output[:] = [name(v) for v in node.input], [name(v) for v in node.output]
        copy.name = ""
        nodes.append(copy)
    return nodes


def _node(operator: str, inputs: list[str], output: str, **attributes: int) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, [output], **attributes)


def _config(manifest: Manifest) -> dict[str, object]:
    shape, stop = section(manifest.decoder, "decoder"), section(manifest.generation, "generation").stop_id
    decoder = {
        "filename": GRAPH,
        "hidden_size": shape.width,
        "head_size": shape.head_dim,
        "num_attention_heads": shape.width // shape.head_dim,
        "num_key_value_heads": shape.kv_heads,
        "num_hidden_layers": shape.layers,
        "session_options": {"provider_options": []},
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": "past_key_%d",
            "past_value_names": "past_value_%d",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present_key_%d",
            "present_value_names": "present_value_%d",
        },
    }
    model = {
        "type": "llama",
        "bos_token_id": stop,
        "eos_token_id": stop,
        "pad_token_id": section(manifest.prompt, "prompt").pad_id,
        "vocab_size": shape.vocabulary,
        "context_length": shape.max_positions,
        "decoder": decoder,
    }
    # The caches of the graph have one size, so the longest text must be that.
    search = {"do_sample": False, "max_length": shape.max_positions, "past_present_share_buffer": True}
    return {"model": model, "search": search}
