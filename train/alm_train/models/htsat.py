"""HTS-AT: a Swin transformer over a folded log-mel spectrogram, with a token-semantic tagging head.

One module for every family here (Mellow, ADIFF, CLAP, ...). Parameter names are those of the original
checkpoints, so an official file loads without a renaming table. Source: HTS-AT paper (Chen et al., ICASSP
2022, section 2) and soham97/mellow.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_train.models.frontend import FrontendConfig, LogMel


@dataclass(frozen=True)
class HTSATConfig:
    """Shape of the encoder. The defaults are the official one: 31.3 M parameters, 10 s clips."""

    frontend: FrontendConfig = field(default_factory=FrontendConfig)
    """Waveform to log-mel."""
    frames: int = 1024
    """Frames after stretching the log-mel along time."""
    fold: int = 4
    """Consecutive pieces of the spectrogram stacked along frequency, so that the image is about square."""
    patch: tuple[int, int] = (4, 4)
    """One patch, in (mel bands, frames)."""
    width: int = 96
    """Channels of the first stage; each later stage doubles them and halves the grid."""
    depths: tuple[int, ...] = (2, 2, 6, 2)
    """Blocks per stage."""
    heads: tuple[int, ...] = (4, 8, 16, 32)
    """Attention heads per stage."""
    window: int = 8
    """Side of an attention window, in patches."""
    classes: int = 527
    """Outputs of the tagging head."""
    drop_path: float = 0.1
    """Stochastic depth at the last block (training only), rising linearly from 0."""

    @property
    def grid(self) -> tuple[int, int]:
        """Patches of the first stage, (rows, columns)."""
        rows = self.fold * self.frontend.mels // self.patch[0]
        return rows, self.frames // self.fold // self.patch[1]

    @property
    def final_grid(self) -> tuple[int, int]:
        """Patches after the last stage."""
        shrink = 2 ** (len(self.depths) - 1)
        return self.grid[0] // shrink, self.grid[1] // shrink

    @property
    def final_width(self) -> int:
        """Channels after the last stage; the size of `latent`."""
        return self.width * 2 ** (len(self.depths) - 1)

    @property
    def positions(self) -> int:
        """Distinct positions in time of the tagging head."""
        return self.fold * self.final_grid[1]

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> HTSATConfig:
        """From what `dataclasses.asdict` gives, also after a trip through JSON."""
        tuples = {key: tuple(data[key]) for key in ("patch", "depths", "heads")}
        return cls(**{**data, **tuples, "frontend": FrontendConfig(**data["frontend"])})


class HTSATOutput(NamedTuple):
    """What one pass over a batch of clips gives."""

    latent: Tensor
    """(B, final_width): mean of the final tokens."""
    clipwise: Tensor
    """(B, classes): class probabilities of the clip."""
    frames: Tensor
    """(B, positions, classes): class probabilities per distinct position in time."""


class HTSAT(nn.Module):
    """The encoder. `forward` takes waveforms; `encode` takes log-mels, for training that augments them."""

    def __init__(self, config: HTSATConfig) -> None:
        super().__init__()
        self.config = config
        width = config.final_width
        self.logmel_extractor = LogMel(config.frontend)
        self.bn0 = nn.BatchNorm2d(config.frontend.mels)
        self.patch_embed = PatchEmbed(config.patch, config.width)
        drop = torch.linspace(0.0, config.drop_path, sum(config.depths)).tolist()
        self.layers = nn.ModuleList()
        for stage, depth in enumerate(config.depths):
            grid = (config.grid[0] >> stage, config.grid[1] >> stage)
            first = sum(config.depths[:stage])
            self.layers.append(
                Stage(
                    config.width << stage,
                    grid,
                    config.heads[stage],
                    config.window,
                    drop[first : first + depth],
                    downsample=stage < len(config.depths) - 1,
                )
            )
        self.norm = nn.LayerNorm(width)
        bands = config.final_grid[0] // config.fold
        self.tscam_conv = nn.Conv2d(width, config.classes, (bands, 3), padding=(0, 1))
        self.apply(_initialise)

    def forward(self, waveform: Tensor) -> HTSATOutput:
        """`waveform` (B, samples) float32."""
        return self.encode(self.logmel_extractor(waveform))

    def encode(self, log_mel: Tensor) -> HTSATOutput:
        """`log_mel` (B, frontend.frames, mels) in dB."""
        tokens = self.patch_embed(self.fold(self.normalise(log_mel)))
        for stage in self.layers:
            tokens = stage(tokens)
        tokens = self.norm(tokens)
        logits = self.tag(tokens)
        return HTSATOutput(tokens.mean(1), logits.mean(1).sigmoid(), logits.sigmoid())

    def normalise(self, log_mel: Tensor) -> Tensor:
        """Batch norm per mel band; same shape."""
        return self.bn0(log_mel.transpose(1, 2).unsqueeze(-1)).squeeze(-1).transpose(1, 2)

    def fold(self, log_mel: Tensor) -> Tensor:
        """(B, T, mels) stretched to `frames` and folded: (B, 1, fold * mels, frames // fold)."""
        config = self.config
        if log_mel.shape[1] != config.frames:
            size = (config.frames, log_mel.shape[2])
            log_mel = F.interpolate(log_mel.unsqueeze(1), size, mode="bicubic", align_corners=True).squeeze(1)
        pieces = log_mel.reshape(len(log_mel), config.fold, config.frames // config.fold, -1)
        return pieces.transpose(2, 3).reshape(len(log_mel), 1, -1, config.frames // config.fold)

    def tag(self, tokens: Tensor) -> Tensor:
        """Final tokens (B, rows * columns, width) to logits (B, positions, classes)."""
        config = self.config
        rows, columns = config.final_grid
        grid = tokens.transpose(1, 2).reshape(len(tokens), -1, config.fold, rows // config.fold, columns)
        unfolded = grid.transpose(2, 3).reshape(len(tokens), -1, rows // config.fold, config.positions)
        return self.tscam_conv(unfolded).squeeze(2).transpose(1, 2)


class PatchEmbed(nn.Module):
    """(B, 1, H, W) image to (B, patches, width), row by row."""

    def __init__(self, patch: tuple[int, int], width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, width, patch, stride=patch)
        self.norm = nn.LayerNorm(width)

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(self.proj(image).flatten(2).transpose(1, 2))


class Stage(nn.Module):
    """Swin blocks at one resolution; odd blocks shift the windows where the grid holds more than one."""

    def __init__(
        self, width: int, grid: tuple[int, int], heads: int, window: int, drop: list[float], downsample: bool
    ) -> None:
        super().__init__()
        shift = window // 2 if min(grid) > window else 0
        self.blocks = nn.ModuleList(
            Block(width, grid, heads, window, shift if i % 2 else 0, rate) for i, rate in enumerate(drop)
        )
        self.downsample = PatchMerging(width, grid) if downsample else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        for block in self.blocks:
            tokens = block(tokens)
        return self.downsample(tokens)


class Block(nn.Module):
    """Window attention and MLP, each behind a layer norm and a residual."""

    def __init__(
        self, width: int, grid: tuple[int, int], heads: int, window: int, shift: int, drop_path: float
    ) -> None:
        super().__init__()
        order = window_order(grid, window, shift)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("inverse", torch.argsort(order), persistent=False)
        self.register_buffer("mask", shift_mask(grid, window, shift) if shift else None, persistent=False)
        self.windows = len(order) // window**2
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        windows = self.norm1(tokens)[:, self.order].reshape(batch * self.windows, -1, width)
        attended = self.attn(windows, self.mask).reshape(batch, count, width)[:, self.inverse]
        tokens = tokens + self._drop(attended)
        return tokens + self._drop(self.mlp(self.norm2(tokens)))

    def _drop(self, branch: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0.0:
            return branch
        keep = 1.0 - self.drop_path
        return branch * torch.empty(len(branch), 1, 1, device=branch.device).bernoulli_(keep).div_(keep)


class WindowAttention(nn.Module):
    """Self-attention inside windows, with a learned bias per relative offset."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("relative_position_index", relative_position_index(window), persistent=False)

    def bias(self) -> Tensor:
        """(heads, window², window²) additive bias."""
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """`windows` (B * windows, window², width); `mask` (windows, window², window²) or None."""
        count, size, width = windows.shape
        query, key, value = self.qkv(windows).reshape(count, size, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1) + self.bias()
        if mask is not None:
            grouped = scores.reshape(-1, len(mask), self.heads, size, size) + mask[:, None]
            scores = grouped.reshape(scores.shape)
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(count, size, width)
        return self.proj(mixed)


class MLP(nn.Module):
    """Linear to four times the width, exact GELU, linear back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(tokens)))


class PatchMerging(nn.Module):
    """2 x 2 neighbours become one token of twice the width."""

    def __init__(self, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        rows, columns = self.grid
        # Original channel order: (even row, even column), (odd, even), (even, odd), (odd, odd).
        quads = tokens.reshape(len(tokens), rows // 2, 2, columns // 2, 2, -1).permute(0, 1, 3, 4, 2, 5)
        return self.reduction(self.norm(quads.reshape(len(tokens), rows * columns // 4, -1)))


def window_order(grid: tuple[int, int], window: int, shift: int) -> Tensor:
    """Token index per place after a cyclic shift and a cut into windows, shape (rows * columns,)."""
    rows, columns = grid
    index = torch.arange(rows * columns).reshape(grid).roll((-shift, -shift), (0, 1))
    return index.reshape(rows // window, window, columns // window, window).transpose(1, 2).reshape(-1)


def shift_mask(grid: tuple[int, int], window: int, shift: int) -> Tensor:
    """(windows, window², window²): -100 between tokens that a cyclic shift brought together, else 0."""
    region = torch.zeros(grid)
    cuts = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for number, (rows, columns) in enumerate((r, c) for r in cuts for c in cuts):
        region[rows, columns] = number
    flat = region.reshape(-1)[window_order(grid, window, 0)].reshape(-1, window**2)
    return torch.where(flat[:, None, :] == flat[:, :, None], 0.0, -100.0)


def relative_position_index(window: int) -> Tensor:
    """(window², window²) row of the bias table for each pair of places."""
    places = torch.cartesian_prod(torch.arange(window), torch.arange(window))
    offset = places[:, None] - places[None, :] + window - 1
    return offset[..., 0] * (2 * window - 1) + offset[..., 1]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, WindowAttention):
        nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)
