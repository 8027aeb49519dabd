"""The components of CLAP 2023: a clip to its vector, a text to its vector, both before normalisation."""

from __future__ import annotations

import numpy as np

from alm_export.graphs.audio_encoder import hear, layer_norm, project
from alm_export.graphs.decoder import dequantized_rows
from alm_export.graphs.graph import GraphBuilder, array
from alm_quantize.schemes import SCHEMES
from alm_train.models.clap import AudioTower, TextTower
from alm_train.models.gpt2 import InOutLinear, Layer

TABLE_SCHEME = "int8-block32"
"""How a quantized text encoder stores its token table: rows are looked up, so a scale belongs to a part of a row."""
MASKED = -1e9


def build_audio_tower(tower: AudioTower, scheme: str) -> GraphBuilder:
    """`waveform` (1, samples) float32 to `embedding` (1, d). `log_mel` (1, frames, mels) is an output too, for the
    self-test. The tagging head of HTS-AT does not touch the vector and is left out."""
    graph = GraphBuilder("audio_encoder")
    _, latent = hear(graph, tower.base.htsat, scheme)
    vector = project(graph, latent, tower.projection, scheme)
    graph.output(vector, "embedding", np.float32, (1, tower.projection.linear2.out_features))
    return graph


def build_text_tower(tower: TextTower, tokens: int, scheme: str) -> GraphBuilder:
    """`ids` (T,) int64, at most `tokens` and without padding, and `place` (1,) of the token that stands for the whole
    text, to `embedding` (1, d). Attention is causal, so the padding that the authors add changes nothing."""
    config = tower.base.config
    graph = GraphBuilder("text_encoder")
    ids = graph.input("ids", np.int64, ("length",))
    place = graph.input("place", np.int64, (1,))
    positions = array(tower.base.wpe.weight)[:tokens]
    hidden = embedded(graph, ids, array(tower.base.wte.weight), positions, scheme)
    mask = _causal_mask(graph, ids, tokens)
    for index, layer in enumerate(tower.base.h):
        hidden = _layer(graph, hidden, mask, layer, config.heads, f"text.layer{index}", scheme)
    pooled = graph.op("Gather", layer_norm(graph, hidden, tower.base.ln_f, "text.norm"), place, axis=0)
    vector = project(graph, pooled, tower.projection, scheme, "text.projection")
    graph.output(vector, "embedding", np.float32, (1, tower.projection.linear2.out_features))
    return graph


def embedded(graph: GraphBuilder, ids: str, table: np.ndarray, positions: np.ndarray, scheme: str) -> str:
    """Rows `ids` (T,) of `table` (vocabulary, width) plus the first T of `positions` (places, width)."""
    if SCHEMES[scheme].bits == 32:
        rows = graph.op("Gather", graph.constant(table, "token_table"), ids, axis=0)
    else:
        rows = dequantized_rows(graph, ids, table, "token_table", TABLE_SCHEME)
    return graph.op("Add", rows, _first(graph, graph.constant(positions, "position_table"), ids, (0,)))


def _causal_mask(graph: GraphBuilder, ids: str, tokens: int) -> str:
    mask = np.triu(np.full((tokens, tokens), MASKED, np.float32), 1)
    return _first(graph, graph.constant(mask, "causal_mask"), ids, (0, 1))


def _first(graph: GraphBuilder, value: str, ids: str, axes: tuple[int, ...]) -> str:
    """As many entries of `value` along each of `axes` as there are ids."""
    length = graph.op("Shape", ids)
    ends = length if len(axes) == 1 else graph.op("Concat", *[length] * len(axes), axis=0)
    starts = graph.constant(np.zeros(len(axes), np.int64))
    return graph.op("Slice", value, starts, ends, graph.constant(np.array(axes, np.int64)))


def _layer(graph: GraphBuilder, hidden: str, mask: str, layer: Layer, heads: int, name: str, scheme: str) -> str:
    normed = layer_norm(graph, hidden, layer.ln_1, f"{name}.norm1")
    weight, bias = array(layer.attn.c_attn.weight).T, array(layer.attn.c_attn.bias)
    merged = attention(graph, normed, weight, bias, heads, name, scheme, mask)
    hidden = graph.op("Add", hidden, _linear(graph, merged, layer.attn.c_proj, f"{name}.proj", scheme))
    normed = layer_norm(graph, hidden, layer.ln_2, f"{name}.norm2")
    inner = graph.op("Gelu", _linear(graph, normed, layer.mlp.c_fc, f"{name}.fc1", scheme), approximate="tanh")
    return graph.op("Add", hidden, _linear(graph, inner, layer.mlp.c_proj, f"{name}.fc2", scheme))


def attention(
    graph: GraphBuilder,
    value: str,
    weight: np.ndarray,
    bias: np.ndarray,
    heads: int,
    name: str,
    scheme: str,
    mask: str | None = None,
) -> str:
    """Self-attention of `value` (T, width), the heads put together again (T, width). `weight` (3 * width, width) and
    `bias` make queries, keys and values; `mask` (T, T) is added to the scores."""
    width = weight.shape[1]
    # The query scale moves into the weights, which saves a pass over the queries.
    factor = np.repeat(np.float32([(width // heads) ** -0.5, 1, 1]), width)
    qkv = graph.linear(value, weight * factor[:, None], scheme, f"{name}.qkv", bias * factor)
    split = graph.transpose(graph.reshape(qkv, (-1, 3, heads, width // heads)), (1, 2, 0, 3))
    query, key, value = (
        graph.op("Squeeze", part, graph.constant(np.array([0], np.int64)))
        for part in graph.op("Split", split, outputs=3, axis=0, num_outputs=3)
    )
    scores = graph.op("MatMul", query, graph.transpose(key, (0, 2, 1)))
    if mask is not None:
        scores = graph.op("Add", scores, mask)
    mixed = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), value)
    return graph.reshape(graph.transpose(mixed, (1, 0, 2)), (-1, width))


def _linear(graph: GraphBuilder, value: str, layer: InOutLinear, name: str, scheme: str) -> str:
    return graph.linear(value, array(layer.weight).T, scheme, name, array(layer.bias))
