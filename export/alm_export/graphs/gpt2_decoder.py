"""GPT-2 as the `decoder` component, on the same preallocated KV buffers as every decoder here.

GroupQueryAttention reads and writes one buffer for past and present; with as many key heads as query heads and without
rotary angles it is GPT-2's attention. Positions are rows of a learned table, looked up by the lengths that the engine
passes anyway.
"""

from __future__ import annotations

import numpy as np
from torch import nn

from alm_export.graphs.audio_encoder import layer_norm
from alm_export.graphs.decoder import head
from alm_export.graphs.graph import MICROSOFT, GraphBuilder, array
from alm_train.models.gpt2 import GPT2LM, GPT2Config, InOutLinear, Layer


def build_gpt2_decoder(model: GPT2LM, positions: int, scheme: str, head_scheme: str) -> GraphBuilder:
    """Inputs and outputs as those of `decoder.build_decoder`; the embeddings come without positions."""
    config, body = model.config, model.transformer
    graph = GraphBuilder("decoder")
    embeddings = graph.input("embeddings", np.float32, (1, "length", config.width))
    rows = graph.input("rows", np.int64, ("rows",))
    graph.input("last_position", np.int32, (1,))
    graph.input("total_length", np.int32, ())
    shape = (1, config.heads, positions, config.head_dim)
    hidden = graph.op("Add", embeddings, _positions(graph, embeddings, array(body.wpe.weight)[:positions]))
    normed = layer_norm(graph, hidden, body.h[0].ln_1, "layer0.norm1")
    for index, layer in enumerate(body.h):
        last = index == config.layers - 1
        following = body.ln_f if last else body.h[index + 1].ln_1
        past = [graph.input(f"past_{part}_{index}", np.float32, shape) for part in ("key", "value")]
        mixed, *present = _attention(graph, normed, past, layer, f"layer{index}", config, scheme)
        for value, part in zip(present, ("key", "value"), strict=True):
            graph.output(value, f"present_{part}_{index}", np.float32, shape)
        if last:
            mixed, hidden = (graph.op("Gather", value, rows, axis=1) for value in (mixed, hidden))
        mixed = _linear(graph, mixed, layer.attn.c_proj, f"layer{index}.proj", scheme)
        normed, hidden = _add_norm(graph, mixed, hidden, layer.ln_2, f"layer{index}.norm2")
        inner = graph.op(
            "Gelu", _linear(graph, normed, layer.mlp.c_fc, f"layer{index}.fc1", scheme), approximate="tanh"
        )
        mlp = _linear(graph, inner, layer.mlp.c_proj, f"layer{index}.fc2", scheme)
        normed, hidden = _add_norm(graph, mlp, hidden, following, f"layer{index + 1}.norm1")
    wanted = graph.reshape(normed, (-1, config.width))
    logits = head(graph, wanted, array(body.wte.weight), head_scheme)
    graph.output(logits, "logits", np.float32, ("rows", config.vocabulary))
    return graph


def _positions(graph: GraphBuilder, embeddings: str, table: np.ndarray) -> str:
    """The rows (T, width) of the position table for the T embeddings that end at `total_length`."""
    end = graph.op("Cast", "total_length", to=7)
    length = graph.op("Shape", embeddings, start=1, end=2)
    start = graph.op("Sub", end, graph.op("Squeeze", length))
    places = graph.op("Range", start, end, graph.constant(np.array(1, np.int64)))
    return graph.op("Gather", graph.constant(table, "position_table"), places, axis=0)


def _attention(
    graph: GraphBuilder, normed: str, past: list[str], layer: Layer, name: str, config: GPT2Config, scheme: str
) -> list[str]:
    qkv = _linear(graph, normed, layer.attn.c_attn, f"{name}.qkv", scheme)
    found: list[str] = graph.op(
        "GroupQueryAttention", qkv, "", "", *past, "last_position", "total_length",
        outputs=3, domain=MICROSOFT, num_heads=config.heads, kv_num_heads=config.heads, do_rotary=0,
    )  # fmt: skip
    return found


def _add_norm(graph: GraphBuilder, value: str, hidden: str, norm: nn.LayerNorm, name: str) -> list[str]:
    """(norm(value + hidden), value + hidden) in one kernel."""
    scale = graph.constant(array(norm.weight), f"{name}.scale")
    shift = graph.constant(array(norm.bias), f"{name}.shift")
    names = [f"{name}_normed", f"{name}_sum"]
    graph.op(
        "SkipLayerNormalization", value, hidden, scale, shift,
        outputs=[names[0], "", "", names[1]], domain=MICROSOFT, epsilon=norm.eps,
    )  # fmt: skip
    return names


def _linear(graph: GraphBuilder, value: str, layer: InOutLinear, name: str, scheme: str) -> str:
    return graph.linear(value, np.ascontiguousarray(array(layer.weight).T), scheme, name, array(layer.bias))
