"""The `mapper` component: embeddings of one clip or two, and a prompt where the model takes one, to a prefix.

Sources: microsoft/CLAP for ClapCap, soham97/ADIFF.
"""

from __future__ import annotations

import numpy as np
from torch import nn

from alm_export.graphs.audio_encoder import layer_norm
from alm_export.graphs.graph import GraphBuilder, array
from alm_train.models.adiff import Adiff
from alm_train.models.clapcap import ClapCap
from alm_train.models.mapper import Layer, Mapper, Transformer


def build_clapcap_mapper(model: ClapCap, scheme: str) -> GraphBuilder:
    """`first` (1, embedding) to `prefix` (1, prefix_tokens, width)."""
    config = model.config
    graph = GraphBuilder("mapper")
    vector = graph.input("first", np.float32, (1, config.embedding))
    prefix = _from_vector(graph, vector, model.clap_project, "audio", scheme)
    _add_output(graph, prefix, config.prefix_tokens, config.decoder.width)
    return graph


def build_adiff_mapper(model: Adiff, scheme: str) -> GraphBuilder:
    """`first` and `second` (1, embedding) and `prompt` (slot_tokens, width), embedded and padded, to `prefix`
    (1, prefix_tokens, width)."""
    config, decoder = model.config, model.caption_decoder
    graph = GraphBuilder("mapper")
    vectors = [graph.input(name, np.float32, (1, config.embedding)) for name in ("first", "second")]
    prompt = graph.input("prompt", np.float32, (config.slot_tokens, config.decoder.width))
    separator = graph.constant(array(decoder.gpt.transformer.wte.weight)[config.separator_id][None], "separator")
    parts = [
        _from_vector(graph, vectors[0], decoder.audio_project1, "audio1", scheme),
        separator,
        _from_vector(graph, vectors[1], decoder.audio_project2, "audio2", scheme),
        _map(graph, prompt, decoder.text_project, "text", scheme),
    ]
    joined = graph.op("Concat", *parts, axis=0)
    mixed = _transform(graph, joined, decoder.cross_project, config.prefix_tokens, "cross", scheme)
    _add_output(graph, mixed, config.prefix_tokens, config.decoder.width)
    return graph


def _add_output(graph: GraphBuilder, prefix: str, tokens: int, width: int) -> None:
    graph.output(graph.reshape(prefix, (1, tokens, width)), "prefix", np.float32, (1, tokens, width))


def _from_vector(graph: GraphBuilder, vector: str, mapper: Mapper, name: str, scheme: str) -> str:
    """A vector (1, embedding), brought to length 1 as the authors do without an epsilon, to (tokens, width)."""
    length = graph.op("ReduceL2", vector, graph.constant(np.array([1], np.int64)), keepdims=1)
    wide = _linear(graph, graph.op("Div", vector, length), mapper.linear, f"{name}.linear", scheme)
    return _map(graph, graph.reshape(wide, mapper.prefix_const.shape), mapper, name, scheme)


def _map(graph: GraphBuilder, tokens: str, mapper: Mapper, name: str, scheme: str) -> str:
    """Tokens (T, width), followed by the learned constants, transformed; the places of the constants are kept."""
    count = len(mapper.prefix_const)
    joined = graph.op("Concat", tokens, graph.constant(array(mapper.prefix_const), f"{name}.constants"), axis=0)
    mixed = _transform(graph, joined, mapper.transformer, 2 * count, name, scheme)
    start, end, axis = (graph.constant(np.array([place], np.int64)) for place in (count, 2 * count, 0))
    return graph.op("Slice", mixed, start, end, axis)


def _transform(graph: GraphBuilder, tokens: str, transformer: Transformer, count: int, name: str, scheme: str) -> str:
    """(count, width) through all layers."""
    for index, layer in enumerate(transformer.layers):
        tokens = _layer(graph, tokens, layer, count, f"{name}.layer{index}", scheme)
    return tokens


def _layer(graph: GraphBuilder, tokens: str, layer: Layer, count: int, name: str, scheme: str) -> str:
    attention, width = layer.attn, layer.norm1.normalized_shape[0]
    heads, head_dim = attention.heads, width // attention.heads
    normed = layer_norm(graph, tokens, layer.norm1, f"{name}.norm1")
    # The query scale moves into the weights, and one product serves queries, keys and values.
    queries = array(attention.to_queries.weight) * np.float32(head_dim**-0.5)
    packed = np.concatenate((queries, array(attention.to_keys_values.weight)))
    split = graph.reshape(graph.linear(normed, packed, scheme, f"{name}.qkv"), (count, 3, heads, head_dim))
    query, key, value = (
        graph.op("Squeeze", part, graph.constant(np.array([0], np.int64)))
        for part in graph.op("Split", graph.transpose(split, (1, 2, 0, 3)), outputs=3, axis=0, num_outputs=3)
    )
    scores = graph.op("Softmax", graph.op("MatMul", query, graph.transpose(key, (0, 2, 1))), axis=-1)
    merged = graph.reshape(graph.transpose(graph.op("MatMul", scores, value), (1, 0, 2)), (count, width))
    tokens = graph.op("Add", tokens, _linear(graph, merged, attention.project, f"{name}.project", scheme))
    normed = layer_norm(graph, tokens, layer.norm2, f"{name}.norm2")
    inner = graph.op("Relu", _linear(graph, normed, layer.mlp.fc1, f"{name}.fc1", scheme))
    return graph.op("Add", tokens, _linear(graph, inner, layer.mlp.fc2, f"{name}.fc2", scheme))


def _linear(graph: GraphBuilder, value: str, layer: nn.Linear, name: str, scheme: str) -> str:
    return graph.linear(value, array(layer.weight), scheme, name, array(layer.bias))
