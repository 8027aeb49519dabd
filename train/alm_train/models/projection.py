"""The projection head that every family here puts behind its encoders."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Projection(nn.Module):
    """Two-layer residual projection: layer_norm(a + linear2(gelu(a))) with a = linear1(x)."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, out, bias=False)
        self.linear2 = nn.Linear(out, out, bias=False)
        self.drop = nn.Dropout(0.5)
        self.layer_norm = nn.LayerNorm(out)

    def forward(self, rows: Tensor) -> Tensor:
        first = self.linear1(rows)
        return self.layer_norm(first + self.drop(self.linear2(F.gelu(first))))
