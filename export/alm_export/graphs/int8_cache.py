"""Attention over keys and values that are kept in 8 bits: a quarter of the memory, and of what every step reads.

GroupQueryAttention takes such caches from onnxruntime 1.27 on and reads them as they are; a step is faster for it. But
it multiplies the rows of a run one by one, so that the attention of 389 positions takes four times as long as in
float32. A long run therefore attends in float32, to its own keys and values and to what it dequantizes of those before
it, and puts its own into the caches in 8 bits. That is decided around the attention of each layer, so that no weight is
in memory twice: the decisions take 5 % of a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alm_export.graphs.graph import MICROSOFT, GraphBuilder

LONG = 32
"""Positions from which a run attends in float32. For a draft of 16 that would be a tenth faster, but in 8 bits its rows
are rounded as those of the steps that it stands for."""
NO_SINK = -1e4
"""The logit of an attention sink that draws nothing. With one, onnxruntime 1.32 multiplies whole matrices and not
tiles of them, which takes 0.8 of the time for long runs and 0.9 for a step at 400 positions."""


@dataclass(frozen=True)
class Run:
    """Values of the graph that the attention of every layer needs."""

    long: str
    """(1,) whether the run is a long one."""
    start: str
    """(1,) positions that the caches hold before it."""
    end: str
    """(1,) positions that they hold after it."""
    places: str
    """(1, kv_heads, T, 3) where its rows lie in a cache; made for a long run only."""


def describe_run(graph: GraphBuilder, embeddings: str, kv_heads: int) -> Run:
    """The run of `embeddings` (1, T, width), of which the graph's input `total_length` () tells the end."""
    length = graph.op("Shape", embeddings, start=1, end=2)
    end = graph.reshape(graph.op("Cast", "total_length", to=7), (1,))
    start = graph.op("Sub", end, length)
    long = graph.op("GreaterOrEqual", length, graph.constant(np.array([LONG], np.int64)))
    heads = np.zeros((1, kv_heads, 1, 3), np.int64)
    heads[0, :, 0, 1] = np.arange(kv_heads)

    def places() -> list[str]:
        first, last = (graph.op("Squeeze", value) for value in (start, end))
        positions = graph.op("Range", first, last, graph.constant(np.array(1, np.int64)))
        along = graph.op("Mul", graph.reshape(positions, (-1, 1)), graph.constant(np.array([0, 0, 1], np.int64)))
        return [graph.op("Add", graph.constant(heads), along)]

    def none() -> list[str]:
        return [graph.op("Identity", graph.constant(heads))]

    [found] = graph.either(long, places, none, [(np.int64, (1, kv_heads, "places", 3))])
    return Run(long, start, end, found)


def attend(
    graph: GraphBuilder,
    run: Run,
    qkv: str,
    past: Sequence[str],
    scales: Sequence[NDArray[np.float32]],
    tables: Sequence[str],
    name: str,
    *,
    heads: int,
    positions: int,
) -> list[str]:
    """What the heads of a layer mixed (1, T, width), and its caches with the run in them.

    `qkv` (1, T, (heads + 2 * kv_heads) * head_dim) is not rotated yet. `past` has the layer's two caches (1, kv_heads,
    positions, head_dim) and `scales` (kv_heads, head_dim) of both, keys before values; `tables` are the cosines and
    sines of all positions.
    """
    kv_heads, head_dim = scales[0].shape
    cache = 1, kv_heads, positions, head_dim
    kinds = [(np.float32, (1, "length", heads * head_dim)), (np.int8, cache), (np.int8, cache)]
    names = [f"{name}.{part}_scale" for part in ("key", "value")]
    steps = [graph.constant(scale[np.newaxis, :, np.newaxis], key) for scale, key in zip(scales, names, strict=True)]
    where = "last_position", "total_length", *tables, "", "", graph.constant(np.full(heads, NO_SINK, np.float32))
    attention = {"domain": MICROSOFT, "num_heads": heads, "kv_num_heads": kv_heads, "do_rotary": 1, "outputs": 3}

    def in_float() -> list[str]:
        zero, axis = (graph.constant(np.array([value], np.int64)) for value in (0, 2))
        before = [graph.op("Cast", graph.op("Slice", value, zero, run.start, axis), to=1) for value in past]
        before = [graph.op("Mul", value, step) for value, step in zip(before, steps, strict=True)]
        mixed, *after = graph.op("GroupQueryAttention", qkv, "", "", *before, *where, **attention)
        own = [graph.op("Slice", value, run.start, run.end, axis) for value in after]
        codes = [_codes(graph, value, step) for value, step in zip(own, steps, strict=True)]
        return [mixed, *(graph.op("ScatterND", old, run.places, new) for old, new in zip(past, codes, strict=True))]

    def in_int8() -> list[str]:
        kinds = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}
        found: list[str] = graph.op("GroupQueryAttention", qkv, "", "", *past, *where, *steps, **attention, **kinds)
        return found

    return graph.either(run.long, in_float, in_int8, kinds)


def _codes(graph: GraphBuilder, value: str, step: str) -> str:
    """`value` in int8; what lies beyond the scale is cut off."""
    unit, zero = graph.constant(1.0), graph.constant(np.array(0, np.int8))
    return graph.op("QuantizeLinear", graph.op("Div", value, step), unit, zero)
