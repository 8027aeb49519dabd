"""The `decoder` and `token_embedding` components: SmolLM2 on a shared, preallocated KV buffer.

GroupQueryAttention reads and writes the same buffer for past and present, so a step copies nothing. Only the
positions asked for reach the last layer's MLP and the head: the 49152-way head over a 389-position prefix
would cost more than the prefix itself.
"""

from __future__ import annotations

import numpy as np

from alm_export.graphs import int8_cache
from alm_export.graphs.graph import MICROSOFT, GraphBuilder, array
from alm_quantize.cache_scales import CacheScales
from alm_quantize.schemes import SCHEMES, quantize_blocks
from alm_train.models.smollm2 import Layer, SmolLM2, SmolLM2Config, rotary_table


def build_decoder(
    model: SmolLM2, positions: int, scheme: str, head_scheme: str, scales: CacheScales | None = None
) -> GraphBuilder:
    """Inputs `embeddings` (1, T, width), `rows` (K,) of them whose logits are wanted, `past_key_i`/`past_value_i`
    (1, kv_heads, positions, head_dim) and the two lengths that GroupQueryAttention wants; outputs `logits`
    (K, vocabulary) and the present buffers. Keys and values are int8 by `scales`, float32 without."""
    config = model.config
    graph = GraphBuilder("decoder")
    hidden = graph.input("embeddings", np.float32, (1, "length", config.width))
    rows = graph.input("rows", np.int64, ("rows",))
    graph.input("last_position", np.int32, (1,))
    graph.input("total_length", np.int32, ())
    rotary = rotary_table(config, positions).numpy()
    tables = [graph.constant(table, name) for table, name in zip(rotary, ("rotary_cos", "rotary_sin"), strict=True)]
    shape, kept = (1, config.kv_heads, positions, config.head_dim), np.float32 if scales is None else np.int8
    run = None if scales is None else int8_cache.describe_run(graph, hidden, config.kv_heads)
    normed = _rms_norm(graph, hidden, model.model.layers[0].input_layernorm, "layer0.norm1")
    for index, layer in enumerate(model.model.layers):
        last = index == config.layers - 1
        following = model.model.norm if last else model.model.layers[index + 1].input_layernorm
        past = [graph.input(f"past_{part}_{index}", kept, shape) for part in ("key", "value")]
        qkv = _projected(graph, normed, layer, f"layer{index}", scheme)
        if scales is None or run is None:
            mixed, *present = _attention(graph, qkv, past, tables, config)
        else:
            steps = scales.keys[index], scales.values[index]
            mixed, *present = int8_cache.attend(
                graph, run, qkv, past, steps, tables, f"layer{index}", heads=config.heads, positions=positions
            )
        for value, part in zip(present, ("key", "value"), strict=True):
            graph.output(value, f"present_{part}_{index}", kept, shape)
        if last:
            mixed, hidden = (graph.op("Gather", value, rows, axis=1) for value in (mixed, hidden))
        mixed = graph.linear(mixed, array(layer.self_attn.o_proj.weight), scheme, f"layer{index}.o_proj")
        normed, hidden = _add_norm(graph, mixed, hidden, layer.post_attention_layernorm, f"layer{index}.norm2")
        mlp = _gated_mlp(graph, normed, layer, f"layer{index}", scheme)
        normed, hidden = _add_norm(graph, mlp, hidden, following, f"layer{index + 1}.norm1")
    wanted = graph.reshape(normed, (-1, config.width))
    logits = head(graph, wanted, array(model.model.embed_tokens.weight), head_scheme)
    graph.output(logits, "logits", np.float32, ("rows", config.vocabulary))
    return graph


def build_token_embedding(model: SmolLM2, head_scheme: str) -> GraphBuilder:
    """`ids` (T,) int64 to `embeddings` (T, width), from the very constants of the decoder's tied head."""
    return embedding_graph(array(model.model.embed_tokens.weight), head_scheme)


def embedding_graph(table: np.ndarray, head_scheme: str) -> GraphBuilder:
    """The `token_embedding` component of any decoder with a tied `table` (vocabulary, width)."""
    graph = GraphBuilder("token_embedding")
    ids = graph.input("ids", np.int64, ("length",))
    if SCHEMES[head_scheme].bits == 32:
        rows = graph.op("Gather", graph.constant(table, "head.table"), ids, axis=0)
    else:
        rows = dequantized_rows(graph, ids, table, "head", head_scheme)
    graph.output(rows, "embeddings", np.float32, ("length", table.shape[1]))
    return graph


def dequantized_rows(graph: GraphBuilder, ids: str, table: np.ndarray, name: str, scheme: str) -> str:
    """Rows `ids` (T,) of `table`, which is stored in blocks: (T, width) float32."""
    bits, block = SCHEMES[scheme].bits, SCHEMES[scheme].block
    blocks = quantize_blocks(table, bits, block)
    codes = graph.op("Gather", graph.constant(blocks.packed, f"{name}.packed"), ids, axis=0)
    if bits == 4:
        low = graph.op("BitwiseAnd", codes, graph.constant(np.array(15, np.uint8)))
        high = graph.op("BitShift", codes, graph.constant(np.array(4, np.uint8)), direction="RIGHT")
        axis = graph.constant(np.array([-1], np.int64))
        halves = [graph.op("Unsqueeze", half, axis) for half in (low, high)]
        codes = graph.reshape(graph.op("Concat", *halves, axis=-1), (0, 0, block))
    centred = graph.op("Sub", graph.op("Cast", codes, to=1), graph.constant(float(1 << (bits - 1))))
    scales = graph.op("Gather", graph.constant(blocks.scales, f"{name}.scales"), ids, axis=0)
    values = graph.op("Mul", centred, graph.op("Unsqueeze", scales, graph.constant(np.array([-1], np.int64))))
    padded = graph.reshape(values, (0, blocks.packed.shape[1] * block))
    zero, end, axis = (graph.constant(np.array([v], np.int64)) for v in (0, table.shape[1], 1))
    return graph.op("Slice", padded, zero, end, axis)


def _projected(graph: GraphBuilder, normed: str, layer: Layer, name: str, scheme: str) -> str:
    attention = layer.self_attn
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    packed = np.concatenate([array(projection.weight) for projection in projections])
    return graph.linear(normed, packed, scheme, f"{name}.qkv")


def _attention(graph: GraphBuilder, qkv: str, past: list[str], tables: list[str], config: SmolLM2Config) -> list[str]:
    found: list[str] = graph.op(
        "GroupQueryAttention", qkv, "", "", *past, "last_position", "total_length", *tables,
        outputs=3, domain=MICROSOFT, num_heads=config.heads, kv_num_heads=config.kv_heads, do_rotary=1,
    )  # fmt: skip
    return found


def _gated_mlp(graph: GraphBuilder, normed: str, layer: Layer, name: str, scheme: str) -> str:
    # Gate and up read the same rows, so one product of both is quantized and started once.
    packed = np.concatenate([array(layer.mlp.gate_proj.weight), array(layer.mlp.up_proj.weight)])
    both = graph.linear(normed, packed, scheme, f"{name}.gate_up")
    gate, up = graph.op("Split", both, outputs=2, axis=-1, num_outputs=2)
    activated = graph.op("QuickGelu", gate, domain=MICROSOFT, alpha=1.0)  # alpha 1 is SiLU
    product = graph.op("Mul", activated, up)
    return graph.linear(product, array(layer.mlp.down_proj.weight), scheme, f"{name}.down")


def head(graph: GraphBuilder, rows: str, table: np.ndarray, scheme: str) -> str:
    """`rows` (K, width) to logits (K, vocabulary), by a tied `table`."""
    if SCHEMES[scheme].bits == 32:
        return graph.op("Gemm", rows, graph.constant(table, "head.table"), transB=1)
    return graph.linear(rows, table, scheme, "head")


def _rms_norm(graph: GraphBuilder, value: str, norm, name: str) -> str:
    """Written out: onnxruntime fuses it again, and its own operator for it is not in the ONNX standard."""
    squares = graph.op("Pow", value, graph.constant(2.0))
    mean = graph.op("ReduceMean", squares, graph.constant(np.array([-1], np.int64)), keepdims=1)
    deviation = graph.op("Sqrt", graph.op("Add", mean, graph.constant(norm.eps)))
    normed = graph.op("Div", value, deviation)
    return graph.op("Mul", normed, graph.constant(array(norm.weight), f"{name}.scale"))


def _add_norm(graph: GraphBuilder, value: str, hidden: str, norm, name: str) -> list[str]:
    """(norm(value + hidden), value + hidden) in one kernel."""
    scale = graph.constant(array(norm.weight), f"{name}.scale")
    names = [f"{name}_normed", f"{name}_mean", f"{name}_deviation", f"{name}_sum"]
    graph.op(
        "SkipSimplifiedLayerNormalization", value, hidden, scale,
        outputs=[names[0], "", "", names[3]], domain=MICROSOFT, epsilon=norm.eps,
    )  # fmt: skip
    return [names[0], names[3]]
