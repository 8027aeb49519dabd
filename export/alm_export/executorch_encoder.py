"""The audio encoder as a module for ExecuTorch: waveform in, audio tokens out, every shape a constant.

XNNPACK has no gather, no layer norm, no roll and no reflection, and each operator it lacks cuts the graph in two. Here
windows are cut and shifted with reshapes, permutations, slices and concatenations, and means, reversals and repetitions
are products with constants, so that the whole encoder is one delegate.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_export.executorch_layers import LayerNorm, linear
from alm_export.graphs.spectrogram import FourStep
from alm_train.models.frontend import LogMel
from alm_train.models.htsat import HTSAT, Block, PatchMerging, WindowAttention
from alm_train.models.mellow import Mellow


class AudioEncoderMethod(nn.Module):
    """(1, 1, samples) to (1, audio_tokens, width), (1, frames, mels) and (1, final_width): tokens, log-mel, latent.

    The input has the three dimensions of an `Audio` of executorch/extension/llm: batch, bins, frames.
    """

    def __init__(self, model: Mellow) -> None:
        super().__init__()
        config, base, projection = model.config, model.audio_encoder.base, model.audio_encoder.projection
        self.log_mel = LogMelMethod(base.htsat.logmel_extractor)
        self.swin = Swin(base.htsat)
        self.tag = TagHead(base.htsat)
        self.c2l = linear(base.c2l.weight, base.c2l.bias)
        self.first, self.second = linear(projection.linear1.weight), linear(projection.linear2.weight)
        self.norm = LayerNorm(projection.layer_norm)
        count = config.encoder.final_grid[0] * config.encoder.final_grid[1]
        self.register_buffer("mean", torch.full((1, count), 1 / count))
        order = torch.cat((torch.zeros(1), 1 + torch.arange(config.encoder.positions).repeat_interleave(config.repeat)))
        self.register_buffer("repeat", F.one_hot(order.long()).float())

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mel = self.log_mel(waveform.reshape(1, -1))
        tokens = self.swin(mel)
        latent = F.linear(tokens.transpose(0, 1), self.mean).reshape(1, -1)
        rows = torch.cat((latent, self.c2l(self.tag(tokens).sigmoid())))
        first = self.first(rows)
        rows = self.norm(first + self.second(F.gelu(first)))
        audio = F.linear(rows.transpose(0, 1), self.repeat).transpose(0, 1)
        return audio.unsqueeze(0), mel.unsqueeze(0), latent


class LogMelMethod(nn.Module):
    """(1, samples) to (frames, mels) in dB, by the four-step transform of the ONNX graph."""

    def __init__(self, module: LogMel) -> None:
        super().__init__()
        self.config = module.config
        steps = FourStep.of(module)
        for name in ("window", "inner", "outer", "mel"):
            self.register_buffer(name, torch.from_numpy(getattr(steps, name)))
        half = self.config.n_fft // 2
        self.register_buffer("backwards", torch.eye(1 << half.bit_length() // 2).flip(0))
        self.register_buffer("backwards_outer", torch.eye(half // len(self.backwards)).flip(0))

    def forward(self, waveform: Tensor) -> Tensor:
        frames = self.frames(waveform) * self.window
        columns, first = len(self.inner) // 2, self.inner.shape[1]
        grid = frames.reshape(len(frames), first, -1).transpose(1, 2)
        short = F.linear(grid, self.inner)  # (T, b, real and imaginary c)
        pairs = short.reshape(len(frames), -1, 2, columns).permute(3, 0, 2, 1).reshape(columns, len(frames), -1)
        spectrum = torch.bmm(pairs, self.outer)  # (c, T, real and imaginary d)
        squares = spectrum * spectrum
        rows = squares.shape[2] // 2
        power = squares[:, :, :rows] + squares[:, :, rows:]
        mel = F.linear(power.transpose(0, 1).reshape(len(frames), -1), self.mel)
        return mel.clamp(min=1e-10).log() * (10 / math.log(10))

    def frames(self, waveform: Tensor) -> Tensor:
        """(1, samples) to overlapping frames (frames, n_fft): each is a few hops side by side."""
        config = self.config
        n_fft, hop, count = config.n_fft, config.hop, config.frames
        half = n_fft // 2
        left, right = self.reversed(waveform[:, 1 : half + 1]), self.reversed(waveform[:, -half - 1 : -1])
        padded = torch.cat((left, waveform, right), 1)
        pieces = -(-n_fft // hop)
        missing = (count + pieces - 1) * hop - padded.shape[1]
        hops = F.pad(padded, (0, missing)) if missing > 0 else padded[:, : padded.shape[1] + missing]
        hops = hops.reshape(-1, hop)
        return torch.cat([hops[piece : piece + count] for piece in range(pieces)], 1)[:, :n_fft]

    def reversed(self, samples: Tensor) -> Tensor:
        """(1, N) from its end to its start: two small products, where XNNPACK has no flip."""
        rows = F.linear(samples.reshape(-1, len(self.backwards)), self.backwards)
        return F.linear(rows.transpose(0, 1), self.backwards_outer).transpose(0, 1).reshape(1, -1)


class Swin(nn.Module):
    """(frames, mels) in dB to the final tokens (rows * columns, final_width)."""

    def __init__(self, htsat: HTSAT) -> None:
        super().__init__()
        self.config, norm, embed = htsat.config, htsat.bn0, htsat.patch_embed
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        self.register_buffer("scale", scale.detach())
        self.register_buffer("shift", (norm.bias - norm.running_mean * scale).detach())
        self.register_buffer("stretch", _stretch(self.config.frontend.frames, self.config.frames))
        # Not an nn.Linear, which quantization would take: sixteen inputs, and the most sensitive layer.
        self.register_buffer("kernel", embed.proj.weight.detach().reshape(self.config.width, -1))
        self.register_buffer("kernel_bias", embed.proj.bias.detach())
        self.embed_norm = LayerNorm(embed.norm)
        self.blocks = nn.ModuleList()
        for stage, layers in enumerate(htsat.layers):
            grid = (self.config.grid[0] >> stage, self.config.grid[1] >> stage)
            self.blocks.extend(WindowBlock(block, grid, self.config.window) for block in layers.blocks)
            if isinstance(layers.downsample, PatchMerging):
                self.blocks.append(Merge(layers.downsample))
        self.norm = LayerNorm(htsat.norm)

    def forward(self, mel: Tensor) -> Tensor:
        tokens = self.patches(mel)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)

    def patches(self, mel: Tensor) -> Tensor:
        """Normalise, stretch, fold, cut into patches, embed."""
        config = self.config
        height, width = config.patch
        value = mel * self.scale + self.shift
        if config.frontend.frames != config.frames:
            value = F.linear(value.transpose(0, 1), self.stretch).transpose(0, 1)
        columns = config.frames // config.fold // width
        pieces = value.reshape(config.fold, columns, width, config.frontend.mels // height, height)
        patches = pieces.permute(0, 3, 1, 4, 2).reshape(-1, height * width)
        return self.embed_norm(F.linear(patches, self.kernel, self.kernel_bias))


class WindowBlock(nn.Module):
    """A Swin block over tokens in natural order."""

    def __init__(self, block: Block, grid: tuple[int, int], window: int) -> None:
        super().__init__()
        self.grid, self.window = grid, window
        self.shift = window // 2 if block.mask is not None else 0
        self.norm1, self.norm2 = LayerNorm(block.norm1), LayerNorm(block.norm2)
        self.attention = Attention(block.attn, block.mask)
        self.fc1, self.fc2 = (linear(layer.weight, layer.bias) for layer in (block.mlp.fc1, block.mlp.fc2))

    def forward(self, tokens: Tensor) -> Tensor:
        (rows, columns), side, width = self.grid, self.window, tokens.shape[1]
        image = self.roll(self.norm1(tokens).reshape(rows, columns, width), self.shift)
        cut = image.reshape(rows // side, side, columns // side, side, width).transpose(1, 2)
        mixed = self.attention(cut.reshape(-1, side * side, width))
        image = mixed.reshape(rows // side, columns // side, side, side, width).transpose(1, 2)
        image = self.roll(image.reshape(rows, columns, width), -self.shift)
        tokens = tokens + image.reshape(rows * columns, width)
        return tokens + self.fc2(F.gelu(self.fc1(self.norm2(tokens))))

    @staticmethod
    def roll(image: Tensor, places: int) -> Tensor:
        """Move both axes `places` towards their start, what falls off coming back at the end."""
        if places:
            image = torch.cat((image[places:], image[:places]), 0)
            image = torch.cat((image[:, places:], image[:, :places]), 1)
        return image


class Attention(nn.Module):
    """Attention inside windows; (windows, window², width) in and out."""

    def __init__(self, attention: WindowAttention, mask: Tensor | None) -> None:
        super().__init__()
        self.heads = attention.heads
        self.qkv, self.proj = (linear(layer.weight, layer.bias) for layer in (attention.qkv, attention.proj))
        self.register_buffer("bias", attention.bias().detach())
        self.register_buffer("mask", None if mask is None else mask.unsqueeze(1))

    def forward(self, windows: Tensor) -> Tensor:
        count, places, width = windows.shape
        head_dim = width // self.heads
        parts = self.qkv(windows).reshape(count, places, 3, self.heads, head_dim).permute(2, 0, 3, 1, 4)
        query, key, value = (part.reshape(-1, places, head_dim) for part in (parts[0:1], parts[1:2], parts[2:3]))
        scores = torch.bmm(query * head_dim**-0.5, key.transpose(1, 2)).reshape(count, self.heads, places, places)
        scores = scores + self.bias
        if self.mask is not None:
            scores = scores + self.mask
        mixed = torch.bmm(scores.softmax(-1).reshape(-1, places, places), value)
        merged = mixed.reshape(count, self.heads, places, head_dim).transpose(1, 2)
        return self.proj(merged.reshape(count, places, width))


class Merge(nn.Module):
    """2 x 2 neighbours become one token of twice the width."""

    def __init__(self, merging: PatchMerging) -> None:
        super().__init__()
        self.grid = merging.grid
        self.norm, self.reduction = LayerNorm(merging.norm), linear(merging.reduction.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        rows, columns = self.grid
        quads = tokens.reshape(rows // 2, 2, columns // 2, 2, -1).permute(0, 2, 3, 1, 4)
        return self.reduction(self.norm(quads.reshape(rows * columns // 4, -1)))


class TagHead(nn.Module):
    """Final tokens to class logits per distinct position; the convolution as one product of gathered neighbours."""

    def __init__(self, htsat: HTSAT) -> None:
        super().__init__()
        conv, self.config = htsat.tscam_conv, htsat.config
        weight = conv.weight.detach().permute(0, 2, 3, 1).reshape(self.config.classes, -1)
        self.classes = linear(weight, conv.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        config = self.config
        rows, columns = config.final_grid
        grid = tokens.reshape(config.fold, rows // config.fold, columns, -1).transpose(0, 1)
        padded = F.pad(grid.reshape(rows // config.fold, config.positions, -1), (0, 0, 1, 1))
        neighbours = torch.cat([padded[:, place : place + config.positions] for place in range(3)], 2)
        return self.classes(neighbours.transpose(0, 1).reshape(config.positions, -1))


def _stretch(source: int, target: int) -> Tensor:
    """(target, source): bicubic interpolation along time, corners aligned, as one matrix."""
    basis = torch.eye(source)[None, None]
    return F.interpolate(basis, (target, source), mode="bicubic", align_corners=True)[0, 0]
