"""What every CLAP is: an audio tower, a text tower and the learned scale of their cosines."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class TwoTowers(nn.Module):
    """Recordings and texts as vectors that can be compared."""

    def __init__(self, audio: nn.Module, text: nn.Module) -> None:
        super().__init__()
        self.audio_encoder, self.caption_encoder = audio, text
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def embed_audio(self, waveform: Tensor) -> Tensor:
        """(B, samples) float32 to (B, embedding), not normalised, as the authors give them out."""
        return self.audio_encoder(waveform)

    def embed_text(self, ids: Tensor) -> Tensor:
        """(B, T) token ids, padded on the right to any common T, to (B, embedding), not normalised."""
        return self.caption_encoder(ids)

    def similarity(self, audio: Tensor, text: Tensor) -> Tensor:
        """(A, embedding) and (B, embedding) to (A, B) logits: cosines times exp(logit_scale)."""
        return self.logit_scale.exp() * unit(audio) @ unit(text).T


def unit(rows: Tensor) -> Tensor:
    """Rows divided by their L2 norm."""
    return rows / rows.norm(dim=-1, keepdim=True)
