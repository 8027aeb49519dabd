"""The captioner learns to write a caption back from what CLAP's text tower makes of it.

Source: "Training Audio Captioning Models without Audio" (arXiv 2309.07372). The towers are frozen; noise on the text
embedding makes the mapper indifferent to the small distance at which the embedding of a fitting recording lies. The
paper keeps a pretrained language model frozen as well; here it is small and learns from the same captions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from alm_train.contrastive.reading import read, tokenize
from alm_train.loop import Loss, Metrics, Validate
from alm_train.models.clap import Clap
from alm_train.models.clapcap import ClapCap
from alm_train.models.two_towers import unit
from alm_train.tagging import half_precision


@dataclass(frozen=True)
class Captions:
    """Captions and where the text tower puts them."""

    ids: Tensor
    """(captions, tokens) ids, the suffix included, padded on the right."""
    vectors: Tensor
    """(captions, embedding) unit vectors."""


def read_captions(clap: Clap, tokenizer: Tokenizer, texts: Sequence[str], longest: int) -> Captions:
    """Tokenize and embed every caption once; captions are static."""
    ids = tokenize(tokenizer, texts, clap.config)
    return Captions(_cut(ids, longest), read(clap.caption_encoder, tokenizer, texts, clap.config).clone())


def _cut(ids: Tensor, longest: int) -> Tensor:
    return ids[:, :longest].contiguous()


class Writer(nn.Module):
    """The parts of a captioner that learn: no audio tower is near them."""

    def __init__(self, captioner: ClapCap) -> None:
        super().__init__()
        self.config = captioner.config
        self.mapper = captioner.clap_project
        self.gpt = captioner.gpt

    def loss(self, vectors: Tensor, ids: Tensor) -> Tensor:
        """Mean cross-entropy of the tokens (B, T) of captions and their end, after prefixes of (B, embedding) vectors.

        The token behind the stop token, and padding, are nothing that decoding ever asks for and are left out.
        """
        with half_precision():
            prefix = self.mapper.from_vector(vectors)
            words = self.gpt.embed(ids[:, :-1])
            logits = self.gpt(torch.cat((prefix, words), 1))[:, self.config.prefix_tokens - 1 :]
        stops = ids == self.config.stop_id
        asked = (ids != self.config.pad_id) & (stops.cumsum(1) - stops.long() == 0)
        return F.cross_entropy(logits.float()[asked], ids[asked])


def writing_loss(captions: Captions, noise: float, batch: int, seed: int) -> Loss:
    """Loss over random captions, their embeddings moved by Gaussian noise."""

    def loss(module: nn.Module, step: int, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        assert isinstance(module, Writer)
        rng = np.random.default_rng([seed, step])
        chosen = torch.from_numpy(rng.choice(len(captions.ids), batch, replace=len(captions.ids) < batch))
        vectors = captions.vectors[chosen]
        moved = vectors + noise * torch.randn(vectors.shape, generator=generator)
        ids = captions.ids[chosen]
        longest = int((ids != module.config.pad_id).sum(1).max())
        return module.loss(unit(moved), ids[:, :longest]), {}

    return loss


def writing_validation(captions: Captions) -> Validate:
    """Loss on held-out captions, without noise and from the embeddings of other captions, which should be worse."""

    @torch.inference_mode()
    def validate(module: nn.Module) -> Metrics:
        assert isinstance(module, Writer)
        own = module.loss(captions.vectors, captions.ids)
        other = module.loss(captions.vectors.roll(1, 0), captions.ids)
        return {"validation_loss": own.item(), "validation_other": other.item()}

    return validate
