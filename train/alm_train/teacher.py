"""A convolutional tagger that guides the encoder while it learns, and is then thrown away.

A transformer has to learn from about a thousand clips that sounds are local in time and pitch; a convolutional
network is built that way. It is trained first; the encoder then imitates its answers and its last feature map
on the same augmented input. Sources: function matching (Beyer et al. 2022, "A good teacher is patient and
consistent") and locality guidance (Li et al. 2022).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConvTagger(nn.Module):
    """(B, T, mels) log-mel in dB to (B, classes) logits; four double convolutions, as in PANNs' CNN10."""

    def __init__(self, mels: int, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(mels)
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        widths = (width, width, 2 * width, 4 * width, 8 * width)
        pools = ((2, 2), (2, 2), (2, 2), (2, 1))
        self.blocks = nn.Sequential(
            *(_double(a, b, pool) for a, b, pool in zip(widths[:-1], widths[1:], pools, strict=True))
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(8 * width, classes)
        self.to(memory_format=torch.channels_last)

    def features(self, log_mel: Tensor) -> Tensor:
        """(B, channels, time, bands): the last feature map; one column spans 32 frames."""
        normal = self.bn0(log_mel.transpose(1, 2).unsqueeze(-1)).transpose(1, 3)
        return self.blocks(self.stem(normal.contiguous(memory_format=torch.channels_last)))

    def classify(self, features: Tensor) -> Tensor:
        """Feature map to logits: mean over bands, then mean plus maximum over time."""
        columns = features.mean(3)
        return self.head(self.dropout(columns.mean(2) + columns.amax(2)))

    def forward(self, log_mel: Tensor) -> Tensor:
        return self.classify(self.features(log_mel))


def _double(inputs: int, outputs: int, pool: tuple[int, int]) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(pool),
    )


def guide_map(features: Tensor, size: tuple[int, int]) -> Tensor:
    """A feature map (B, C, time, bands) averaged to (B, C, bands, time) of `size`, each place of unit scale."""
    pooled = F.adaptive_avg_pool2d(features.float(), (size[1], size[0])).transpose(2, 3)
    return F.layer_norm(pooled.permute(0, 2, 3, 1), pooled.shape[1:2])
