"""First stage: the text tower learns which texts belong together, from texts alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from alm_train.contrastive.pairs import TextPairs
from alm_train.loop import Loss, Metrics, Validate
from alm_train.models.clap import SUFFIX, ClapConfig, TextTower
from alm_train.models.two_towers import unit
from alm_train.tagging import half_precision


class Reader(nn.Module):
    """The text tower with a temperature of its own."""

    def __init__(self, config: ClapConfig) -> None:
        super().__init__()
        self.tower = TextTower(config.text, config.embedding, config.pad_id)
        self.log_scale = nn.Parameter(torch.tensor(2.7))

    def loss(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Symmetric cross-entropy over the batch for ids (B, T) of matching texts; also the (B, B) logits."""
        with half_precision():
            vectors = [unit(self.tower(ids).float()) for ids in (first, second)]
        logits = self.log_scale.clamp(max=4.6).exp() * vectors[0] @ vectors[1].T
        truth = torch.arange(len(logits))
        return (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2, logits


def tokenize(tokenizer: Tokenizer, texts: Sequence[str], config: ClapConfig) -> Tensor:
    """(len(texts), longest) ids with the suffix, padded on the right; a longer text loses its end, not its suffix."""
    suffix = tokenizer.encode(SUFFIX).ids
    rows = [e.ids[: config.text_tokens - len(suffix)] + suffix for e in tokenizer.encode_batch(list(texts))]
    longest = max(map(len, rows))
    return torch.tensor([row + [config.pad_id] * (longest - len(row)) for row in rows])


@torch.inference_mode()
def read(tower: TextTower, tokenizer: Tokenizer, texts: Sequence[str], config: ClapConfig) -> Tensor:
    """(len(texts), embedding) unit vectors. Texts of like length share a batch, so that little of it is padding."""
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    vectors = torch.empty(len(texts), config.embedding)
    for start in range(0, len(order), 256):
        places = order[start : start + 256]
        vectors[places] = unit(tower(tokenize(tokenizer, [texts[place] for place in places], config)))
    return vectors


def reading_loss(pairs: TextPairs, tokenizer: Tokenizer, config: ClapConfig, batch: int, seed: int) -> Loss[Reader]:
    """Contrastive loss over fresh pairs in every step."""

    def loss(module: Reader, step: int, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        first, second = pairs.draw(batch, np.random.default_rng([seed, step]))
        value, _ = module.loss(tokenize(tokenizer, first, config), tokenize(tokenizer, second, config))
        return value, {}

    return loss


def reading_validation(pairs: TextPairs, tokenizer: Tokenizer, config: ClapConfig, batch: int) -> Validate[Reader]:
    """Loss and share of texts whose partner is nearest, over one batch of pairs of captions that are held out."""
    first, second = pairs.draw(batch, np.random.default_rng(0))
    ids = tokenize(tokenizer, first, config), tokenize(tokenizer, second, config)

    @torch.inference_mode()
    def validate(module: Reader) -> Metrics:
        value, logits = module.loss(*ids)
        nearest = (logits.argmax(1) == torch.arange(len(logits))).float().mean()
        return {"validation_loss": value.item(), "validation_nearest": nearest.item()}

    return validate
