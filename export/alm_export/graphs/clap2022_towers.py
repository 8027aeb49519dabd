"""The components of CLAP 2022: CNN14 hears, BERT reads; inputs and outputs as those of CLAP 2023."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from alm_export.graphs.audio_encoder import layer_norm, project
from alm_export.graphs.clap_towers import attention, embedded
from alm_export.graphs.decoder import dequantized_rows
from alm_export.graphs.graph import GraphBuilder, array
from alm_export.graphs.spectrogram import log_mel
from alm_quantize.schemes import SCHEMES, quantize_rows
from alm_train.models.bert import Layer, Residual
from alm_train.models.clap2022 import AudioTower, TextTower
from alm_train.models.cnn14 import Cnn14


def build_audio_tower(tower: AudioTower, scheme: str) -> GraphBuilder:
    """`waveform` (1, samples) float32 to `embedding` (1, d), and `log_mel` (1, frames, mels) for the self-test."""
    graph, frontend = GraphBuilder("audio_encoder"), tower.base.config.frontend
    waveform = graph.input("waveform", np.float32, (1, frontend.samples))
    mel = log_mel(graph, waveform, tower.base.logmel_extractor)
    shape = (1, frontend.frames, frontend.mels)
    graph.output(graph.reshape(mel, shape), "log_mel", np.float32, shape)
    vector = project(graph, _cnn14(graph, mel, tower.base, scheme), tower.projection, scheme)
    graph.output(vector, "embedding", np.float32, (1, tower.projection.linear2.out_features))
    return graph


def build_text_tower(tower: TextTower, tokens: int, scheme: str) -> GraphBuilder:
    """`ids` (T,) int64, at most `tokens` and without padding, which no token attends, and `place` (1,) of the token
    that stands for the whole text, to `embedding` (1, d)."""
    graph, words = GraphBuilder("text_encoder"), tower.base.embeddings
    ids = graph.input("ids", np.int64, ("length",))
    place = graph.input("place", np.int64, (1,))
    # All tokens are of the first segment, whose row can as well be part of each place's.
    places = array(words.position_embeddings.weight)[:tokens] + array(words.token_type_embeddings.weight)[0]
    hidden = embedded(graph, ids, array(words.word_embeddings.weight), places, scheme)
    hidden = layer_norm(graph, hidden, words.LayerNorm, "text.norm")
    for index, layer in enumerate(tower.base.encoder.layer):
        hidden = _layer(graph, hidden, layer, tower.base.config.heads, f"text.layer{index}", scheme)
    pooled = graph.op("Gather", hidden, place, axis=0)
    vector = project(graph, pooled, tower.projection, scheme, "text.projection")
    graph.output(vector, "embedding", np.float32, (1, tower.projection.linear2.out_features))
    return graph


def _cnn14(graph: GraphBuilder, mel: str, cnn14: Cnn14, scheme: str) -> str:
    """(frames, mels) dB to the clip vector (1, d) before its projection."""
    scale, shift = _affine(cnn14.bn0)
    normed = graph.op("Add", graph.op("Mul", mel, graph.constant(scale)), graph.constant(shift))
    image = graph.reshape(normed, (1, 1, -1, cnn14.config.frontend.mels))
    blocks = len(cnn14.config.channels)
    for number in range(1, blocks + 1):
        block = cnn14.get_submodule(f"conv_block{number}")
        # Nine inputs per value: too few to gain from fewer bits, and the first layer is the most sensitive.
        first = "fp32" if number == 1 else scheme
        image = _convolve(graph, image, block.conv1, block.bn1, first, f"block{number}.conv1")
        image = _convolve(graph, image, block.conv2, block.bn2, scheme, f"block{number}.conv2")
        if number < blocks:
            image = graph.op("AveragePool", image, kernel_shape=[2, 2], strides=[2, 2])
    axis, last = graph.constant(np.array([2], np.int64)), graph.constant(np.array([3], np.int64))
    rows = graph.op("ReduceMean", image, last, keepdims=0)
    pooled = graph.op("Add", *(graph.op(kind, rows, axis, keepdims=0) for kind in ("ReduceMax", "ReduceMean")))
    return graph.op("Relu", graph.linear(pooled, array(cnn14.fc1.weight), scheme, "fc1", array(cnn14.fc1.bias)))


def _convolve(
    graph: GraphBuilder, image: str, convolution: nn.Conv2d, norm: nn.BatchNorm2d, scheme: str, name: str
) -> str:
    """Convolution, batch norm (folded into it) and ReLU of (1, in, T, F): (1, out, T, F)."""
    scale, shift = _affine(norm)
    kernel = array(convolution.weight) * scale[:, None, None, None]
    chosen, flat, same = SCHEMES[scheme], kernel.reshape(len(kernel), -1), {"pads": [1, 1, 1, 1]}
    if chosen.bits < 32 and not chosen.block:
        return graph.op("Relu", _integer_convolve(graph, image, kernel, shift, name))
    if chosen.block:
        rows = dequantized_rows(graph, graph.constant(np.arange(len(kernel))), flat, name, scheme)
        weight = graph.reshape(rows, kernel.shape)
    else:
        weight = graph.constant(kernel, f"{name}.weight")
    return graph.op("Relu", graph.op("Conv", image, weight, graph.constant(shift, f"{name}.bias"), **same))


def _integer_convolve(graph: GraphBuilder, image: str, kernel: np.ndarray, bias: np.ndarray, name: str) -> str:
    """In 8 bits, one scale per output channel. Codes lie around 128 for every target: signed ones take onnxruntime at
    least twice as long for the convolutions of the official shape (x86-64 with VNNI), and products of two unsigned
    numbers are exact on processors of both kinds."""
    rows = quantize_rows(kernel.reshape(len(kernel), -1), signed=False)
    codes = graph.constant(np.ascontiguousarray(rows.values.T).reshape(kernel.shape), f"{name}.int8")
    heard, heard_scale, heard_zero = graph.op("DynamicQuantizeLinear", image, outputs=3)
    middle = graph.constant(np.array(128, np.uint8))
    sums = graph.op("Cast", graph.op("ConvInteger", heard, codes, heard_zero, middle, pads=[1, 1, 1, 1]), to=1)
    scale = graph.op("Mul", heard_scale, graph.constant(rows.scales[:, None, None], f"{name}.scales"))
    return graph.op("Add", graph.op("Mul", sums, scale), graph.constant(bias[:, None, None], f"{name}.bias"))


def _affine(norm: nn.BatchNorm2d) -> tuple[np.ndarray, np.ndarray]:
    """What a batch norm multiplies each channel with and adds to it."""
    with torch.no_grad():
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        return scale.numpy(), (norm.bias - norm.running_mean * scale).numpy()


def _layer(graph: GraphBuilder, hidden: str, layer: Layer, heads: int, name: str, scheme: str) -> str:
    parts = [layer.attention.self[part] for part in ("query", "key", "value")]
    weight, bias = (np.concatenate([array(getattr(part, kind)) for part in parts]) for kind in ("weight", "bias"))
    mixed = attention(graph, hidden, weight, bias, heads, name, scheme)
    hidden = _residual(graph, mixed, hidden, layer.attention.output, f"{name}.proj", scheme)
    dense = layer.intermediate.dense
    inner = graph.op("Gelu", graph.linear(hidden, array(dense.weight), scheme, f"{name}.fc1", array(dense.bias)))
    return _residual(graph, inner, hidden, layer.output, f"{name}.fc2", scheme)


def _residual(graph: GraphBuilder, branch: str, hidden: str, residual: Residual, name: str, scheme: str) -> str:
    dense = residual.dense
    value = graph.linear(branch, array(dense.weight), scheme, name, array(dense.bias))
    return layer_norm(graph, graph.op("Add", value, hidden), residual.LayerNorm, f"{name}.norm")
