"""Layers in the operators that XNNPACK has: it knows no norm, and means of images only, so a mean is a product."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """A layer of its own over a model's weights: quantization replaces what a layer holds."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().float(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().float(), requires_grad=False)
    return layer


class RMSNorm(nn.Module):
    """An RMS norm of rows."""

    def __init__(self, norm: nn.RMSNorm) -> None:
        super().__init__()
        self.weight, self.eps = norm.weight, norm.eps
        self.register_buffer("mean", torch.full((1, len(norm.weight)), 1 / len(norm.weight)))

    def forward(self, rows: Tensor) -> Tensor:
        return rows * torch.rsqrt(F.linear(rows * rows, self.mean) + self.eps) * self.weight


class LayerNorm(nn.Module):
    """A layer norm of rows."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.register_buffer("mean", torch.full((1, len(norm.weight)), 1 / len(norm.weight)))

    def forward(self, rows: Tensor) -> Tensor:
        centred = rows - F.linear(rows, self.mean)
        variance = F.linear(centred * centred, self.mean)
        return centred * torch.rsqrt(variance + self.eps) * self.weight + self.bias
