"""Initial weights of the part that learns to answer."""

from __future__ import annotations

import torch
from torch import nn

from alm_train.models.mellow import Mellow
from alm_train.models.smollm2 import Attention

SCALE = 0.1
"""Size of one entry of an embedding or of a projected audio row."""
LIKENESS = 0.7
"""Size of the matching heads: a token's score with itself starts at about 4."""


@torch.no_grad()
def initialise(mellow: Mellow) -> None:
    """Bring audio rows and word embeddings to one scale, and start attention with a signal.

    Out of the box an audio row is 50 times as large as a word, and a question's words drown in the average of
    the clips that the first layer adds to them. Matrices are scaled by their inputs (He et al. 2015), those
    that write to the residual stream also by its depth.
    """
    nn.init.constant_(mellow.audio_encoder.projection.layer_norm.weight, SCALE)
    decoder = mellow.caption_decoder.lm
    writes = 2 * decoder.config.layers
    for name, matrix in decoder.named_parameters():
        if matrix.ndim < 2:
            continue
        if "embed_tokens" in name:
            nn.init.normal_(matrix, std=SCALE)
        elif "o_proj" in name or "down_proj" in name:
            nn.init.normal_(matrix, std=0.5 * (matrix.shape[1] * writes) ** -0.5)
        else:
            nn.init.normal_(matrix, std=matrix.shape[1] ** -0.5)
    for layer in decoder.model.layers:
        _match_likes(layer.self_attn)


def _match_likes(attention: Attention) -> None:
    """Let the first query head of each group look for what equals its own token (Trockman and Kolter 2023)."""
    size = attention.head_dim
    group = attention.q_proj.out_features // attention.k_proj.out_features
    queries = attention.q_proj.weight.unflatten(0, (-1, group, size))
    keys = attention.k_proj.weight.mul_(LIKENESS).unflatten(0, (-1, size))
    queries[:, 0] = keys
