"""Where the text tower starts: tokens placed by the company they keep, and a text at the average of its tokens.

From random weights the tower needs most of its short training to find out that words matter. Positive pointwise mutual
information and its singular vectors (Levy and Goldberg 2014; Bullinaria and Levy 2007) give that at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from scipy.sparse import csr_array
from tokenizers import Tokenizer
from torch import Tensor

from alm_train.contrastive.captions import Group
from alm_train.models.clap import TextTower

SMOOTHING = 0.75
"""Exponent of a context's frequency (Levy et al. 2015): rare contexts count less."""


def word_vectors(groups: Sequence[Group], tokenizer: Tokenizer, width: int) -> Tensor:
    """(vocabulary, width) float32 of unit variance: tokens that stand in the same groups of texts lie close."""
    encoded = iter(tokenizer.encode_batch([text for group in groups for text in group]))
    rows = [sorted(set(chain.from_iterable(next(encoded).ids for _ in group))) for group in groups]
    columns = np.concatenate([np.array(row) for row in rows])
    places = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    shape = (len(groups), tokenizer.get_vocab_size())
    present = csr_array((np.ones(len(columns), np.float32), (places, columns)), shape=shape)
    together = (present.T @ present).toarray()
    np.fill_diagonal(together, 0.0)
    alone = together.sum(1)
    context = alone**SMOOTHING / max(float((alone**SMOOTHING).sum()), 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.log(together / (alone[:, None] * context[None, :]))
    positive = torch.from_numpy(np.nan_to_num(np.maximum(information, 0.0), posinf=0.0).astype(np.float32))
    torch.manual_seed(0)
    left, strengths, _ = torch.svd_lowrank(positive, q=width, niter=4)
    vectors = left * strengths.sqrt()
    vectors = vectors - vectors.mean(0)
    return vectors / vectors.std(1, keepdim=True).clamp(min=1e-6)


@torch.no_grad()
def start_as_average(tower: TextTower, vectors: Tensor) -> None:
    """Set the embeddings, and let the first layer's attention add the average of all tokens to the last one."""
    width = tower.base.config.width
    tower.base.wte.weight.copy_(vectors)
    attention = tower.base.h[0].attn
    attention.c_attn.weight[:, 2 * width :] = torch.eye(width)
    attention.c_proj.weight.copy_(2.0 * torch.eye(width))
