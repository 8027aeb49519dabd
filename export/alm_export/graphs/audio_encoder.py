"""The `audio_encoder` component: waveform in, audio tokens out, the log-mel inside the graph.

Everything that depends on shapes alone (window orders, shift masks, interpolation weights) is computed here
and stored, so that an engine only gathers, multiplies and normalises.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from alm_export.graphs.graph import GraphBuilder, array
from alm_export.graphs.spectrogram import log_mel
from alm_train.models.htsat import HTSAT, Block, HTSATConfig, PatchMerging
from alm_train.models.mellow import Mellow
from alm_train.models.projection import Projection


def build_audio_encoder(model: Mellow, scheme: str) -> GraphBuilder:
    """`waveform` (1, samples) float32 to `audio_tokens` (1, audio_tokens, width).

    `log_mel` (1, frames, mels) and `latent` (1, final_width) are outputs too, for the self-test; an engine
    that is not asked for them computes nothing extra.
    """
    config = model.config.encoder
    htsat, base = model.audio_encoder.base.htsat, model.audio_encoder.base
    graph = GraphBuilder("audio_encoder")
    tokens, latent = hear(graph, htsat, scheme)
    frames = _tag(graph, tokens, htsat, scheme)
    described = graph.linear(frames, array(base.c2l.weight), scheme, "c2l", array(base.c2l.bias))
    rows = graph.op("Concat", latent, described, axis=0)
    projected = project(graph, rows, model.audio_encoder.projection, scheme)
    order = np.concatenate(([0], 1 + np.arange(config.positions).repeat(model.config.repeat)))
    audio = graph.op("Gather", projected, graph.constant(order, "token_rows"), axis=0)
    width = model.config.decoder.width
    _add_output(graph, audio, "audio_tokens", (model.config.audio_tokens, width))
    graph.output(latent, "latent", np.float32, (1, config.final_width))
    return graph


def hear(graph: GraphBuilder, htsat: HTSAT, scheme: str) -> tuple[str, str]:
    """From the input `waveform` (1, samples) to HTS-AT's final tokens (rows * columns, final_width) and their mean
    (1, final_width); `log_mel` (1, frames, mels) becomes an output on the way."""
    frontend = htsat.config.frontend
    waveform = graph.input("waveform", np.float32, (1, frontend.samples))
    mel = log_mel(graph, waveform, htsat.logmel_extractor)
    _add_output(graph, mel, "log_mel", (frontend.frames, frontend.mels))
    tokens = _SwinBuilder(graph, scheme).tokens(htsat, mel)
    latent = graph.op("ReduceMean", tokens, graph.constant(np.array([0], np.int64)), keepdims=1)
    return tokens, latent


def _add_output(graph: GraphBuilder, value: str, name: str, shape: tuple[int, int]) -> None:
    graph.output(graph.reshape(value, (1, *shape)), name, np.float32, (1, *shape))


class _SwinBuilder:
    """Writes the Swin stages. The residual stream stays in the window order of the block that last used it:
    layer norms and MLPs work token by token, so one gather between two blocks replaces the two permutations
    around each attention."""

    def __init__(self, graph: GraphBuilder, scheme: str) -> None:
        self.graph = graph
        self.scheme = scheme
        self.order = np.arange(0)

    def tokens(self, htsat: HTSAT, mel: str) -> str:
        """(frames, mels) dB to the final tokens (rows * columns, final_width) in natural order."""
        graph, config = self.graph, htsat.config
        value = _patches(graph, htsat, mel)
        self.order = np.arange(config.grid[0] * config.grid[1])
        for number, stage in enumerate(htsat.layers):
            for index, block in enumerate(stage.blocks):
                value = self._block(value, block, f"stage{number}.block{index}")
            if isinstance(stage.downsample, PatchMerging):
                value = self._merge(value, stage.downsample, f"stage{number}.merge")
        value = self._reorder(value, np.arange(len(self.order)))
        return layer_norm(graph, value, htsat.norm, "norm")

    def _reorder(self, value: str, order: np.ndarray) -> str:
        """Bring the stream from its present order to `order` (natural token index per place)."""
        if np.array_equal(order, self.order):
            return value
        places = np.argsort(self.order)[order]
        self.order = order
        return self.graph.op("Gather", value, self.graph.constant(places), axis=0)

    def _block(self, value: str, block: Block, name: str) -> str:
        graph = self.graph
        value = self._reorder(value, block.order.numpy())
        normed = layer_norm(graph, value, block.norm1, f"{name}.norm1")
        value = graph.op("Add", value, self._attention(normed, block, name))
        normed = layer_norm(graph, value, block.norm2, f"{name}.norm2")
        hidden = self._linear(normed, block.mlp.fc1, f"{name}.fc1")
        return graph.op("Add", value, self._linear(graph.op("Gelu", hidden), block.mlp.fc2, f"{name}.fc2"))

    def _attention(self, normed: str, block: Block, name: str) -> str:
        graph, attention, windows = self.graph, block.attn, block.windows
        width, places = attention.qkv.in_features, len(block.order) // windows
        head_dim = width // attention.heads
        # The query scale moves into the weights, which saves a pass over the queries.
        factor = np.repeat(np.float32([head_dim**-0.5, 1, 1]), width)
        weight, bias = array(attention.qkv.weight) * factor[:, None], array(attention.qkv.bias) * factor
        qkv = graph.linear(normed, weight, self.scheme, f"{name}.qkv", bias)
        heads = graph.reshape(qkv, (windows, places, 3, attention.heads, head_dim))
        query, key, value = (
            graph.op("Squeeze", part, graph.constant(np.array([0], np.int64)))
            for part in graph.op("Split", graph.transpose(heads, (2, 0, 3, 1, 4)), outputs=3, axis=0, num_outputs=3)
        )
        scores = graph.op("MatMul", query, graph.transpose(key, (0, 1, 3, 2)))
        with torch.no_grad():
            bias = attention.bias().numpy()
        scores = graph.op("Add", scores, graph.constant(bias, f"{name}.bias"))
        if block.mask is not None:
            # Apart from the bias: one mask serves a stage, where sums per head and window take 9 MB at full size.
            mask = block.mask.unsqueeze(1).numpy()
            scores = graph.op("Add", scores, graph.constant(mask, f"shift_mask_{windows}_windows"))
        mixed = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), value)
        merged = graph.reshape(graph.transpose(mixed, (0, 2, 1, 3)), (-1, width))
        return self._linear(merged, attention.proj, f"{name}.proj")

    def _merge(self, value: str, merging: PatchMerging, name: str) -> str:
        rows, columns = merging.grid
        index = np.arange(rows * columns).reshape(rows // 2, 2, columns // 2, 2)
        quads = index.transpose(0, 2, 3, 1).reshape(-1)
        value = self._reorder(value, quads)
        self.order = np.arange(len(quads) // 4)
        joined = self.graph.reshape(value, (len(quads) // 4, -1))
        normed = layer_norm(self.graph, joined, merging.norm, f"{name}.norm")
        return self._linear(normed, merging.reduction, f"{name}.reduction")

    def _linear(self, value: str, layer: nn.Linear, name: str) -> str:
        bias = None if layer.bias is None else array(layer.bias)
        return self.graph.linear(value, array(layer.weight), self.scheme, name, bias)


def _patches(graph: GraphBuilder, htsat: HTSAT, mel: str) -> str:
    """(frames, mels) dB: normalise, stretch, fold, cut into patches, embed."""
    config, norm, embed = htsat.config, htsat.bn0, htsat.patch_embed
    with torch.no_grad():
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        shift = norm.bias - norm.running_mean * scale
    value = graph.op("Mul", mel, graph.constant(scale.numpy()))
    value = _stretch(graph, graph.op("Add", value, graph.constant(shift.numpy())), config)
    height, width = config.patch
    columns = config.frames // config.fold // width
    pieces = graph.reshape(value, (config.fold, columns, width, config.frontend.mels // height, height))
    patches = graph.reshape(graph.transpose(pieces, (0, 3, 1, 4, 2)), (-1, height * width))
    # Sixteen inputs per patch: too few to gain from fewer bits, and the first layer is the most sensitive.
    kernel = array(embed.proj.weight).reshape(config.width, -1)
    value = graph.linear(patches, kernel, "fp32", "patch_embed", array(embed.proj.bias))
    return layer_norm(graph, value, embed.norm, "patch_embed.norm")


def _stretch(graph: GraphBuilder, value: str, config: HTSATConfig) -> str:
    """Bicubic interpolation along time from the frontend's frames to the encoder's, corners aligned."""
    source, target = config.frontend.frames, config.frames
    if source == target:
        return value
    place = np.arange(target) * (source - 1) / (target - 1)
    left = np.floor(place).astype(np.int64)
    taps = np.arange(-1, 3)
    distance = np.abs(place[:, None] - left[:, None] - taps[None, :])
    index = np.clip(left[:, None] + taps[None, :], 0, source - 1)
    weights = _cubic(distance).astype(np.float32)[:, :, None]
    gathered = graph.op("Gather", value, graph.constant(index, "stretch_frames"), axis=0)
    weighted = graph.op("Mul", gathered, graph.constant(weights, "stretch_weights"))
    return graph.op("ReduceSum", weighted, graph.constant(np.array([1], np.int64)), keepdims=0)


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Cubic convolution kernel with a = -0.75, as torch has it (Keys 1981)."""
    a = -0.75
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


def _tag(graph: GraphBuilder, tokens: str, htsat: HTSAT, scheme: str) -> str:
    """Final tokens to class probabilities per distinct position, (positions, classes).

    The convolution spans all sub-bands and three positions; as one matrix product over gathered neighbours
    it shares the quantized kernel of every other layer. Row `rows * columns` of the source is the padding.
    """
    config, conv = htsat.config, htsat.tscam_conv
    rows, columns = config.final_grid
    bands = rows // config.fold
    grid = np.arange(rows * columns).reshape(config.fold, bands, columns)
    by_time = np.pad(grid.transpose(1, 0, 2).reshape(bands, -1), ((0, 0), (1, 1)), constant_values=rows * columns)
    neighbours = np.stack([by_time[:, k : k + config.positions] for k in range(3)], -1)  # (bands, positions, 3)
    padding = graph.constant(np.zeros((1, config.final_width), np.float32), "tag_padding")
    source = graph.op("Concat", tokens, padding, axis=0)
    index = graph.constant(neighbours.transpose(1, 0, 2).reshape(config.positions, -1), "tag_neighbours")
    unrolled = graph.reshape(graph.op("Gather", source, index, axis=0), (config.positions, -1))
    weight = array(conv.weight).transpose(0, 2, 3, 1).reshape(config.classes, -1)
    return graph.op("Sigmoid", graph.linear(unrolled, weight, scheme, "tag", array(conv.bias)))


def project(graph: GraphBuilder, rows: str, projection: Projection, scheme: str, name: str = "projection") -> str:
    """`rows` (R, in) through a projection head: (R, out)."""
    first = graph.linear(rows, array(projection.linear1.weight), scheme, f"{name}.linear1")
    second = graph.linear(graph.op("Gelu", first), array(projection.linear2.weight), scheme, f"{name}.linear2")
    return layer_norm(graph, graph.op("Add", first, second), projection.layer_norm, f"{name}.norm")


def layer_norm(graph: GraphBuilder, value: str, norm: nn.LayerNorm, name: str) -> str:
    """Normalise the last axis, scale and shift."""
    scale = graph.constant(array(norm.weight), f"{name}.scale")
    bias = graph.constant(array(norm.bias), f"{name}.shift")
    return graph.op("LayerNormalization", value, scale, bias, axis=-1, epsilon=norm.eps)
