"""The captioner learns to write what belongs to an embedding: of a text, and in a second stage of a recording.

Source of the first stage: "Training Audio Captioning Models without Audio" (arXiv 2309.07372). The towers are frozen;
noise on the text embedding makes the mapper indifferent to the small distance at which the embedding of a fitting
recording lies. The paper keeps a pretrained language model frozen as well; here it is small and learns along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from alm_train.captioner.texts import Pair
from alm_train.contrastive.reading import read, tokenize
from alm_train.loop import Loss, Metrics, Validate
from alm_train.models.clap import Clap, ClapConfig
from alm_train.models.clapcap import ClapCap
from alm_train.models.two_towers import unit
from alm_train.tagging import half_precision


@dataclass(frozen=True)
class Captions:
    """Captions and the embeddings they are to be written from."""

    ids: Tensor
    """(captions, tokens) ids, the suffix included, padded on the right."""
    vectors: Tensor
    """(captions, embedding) unit vectors."""


@dataclass(frozen=True)
class Source:
    """Where some rows of a batch come from."""

    captions: Captions
    """All there are."""
    rows: int
    """Rows of each batch."""
    noise: float
    """Standard deviation of the noise in each dimension of an embedding."""


def read_captions(clap: Clap, tokenizer: Tokenizer, pairs: Sequence[Pair], longest: int) -> Captions:
    """Embed every text once, and tokenize what is written for it; both are static."""
    texts, captions = zip(*pairs, strict=True)
    ids = caption_ids(tokenizer, captions, clap.config, longest)
    return Captions(ids, read(clap.caption_encoder, tokenizer, texts, clap.config).clone())


def caption_ids(tokenizer: Tokenizer, captions: Sequence[str], config: ClapConfig, longest: int) -> Tensor:
    """(captions, tokens) ids with the suffix, cut at `longest`."""
    return tokenize(tokenizer, captions, config)[:, :longest].contiguous()


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


def writing_loss(sources: Sequence[Source], seed: int) -> Loss[Writer]:
    """Loss over random captions of every source, their embeddings moved by Gaussian noise."""

    def loss(module: Writer, step: int, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        rng = np.random.default_rng([seed, step])
        drawn = [_draw(source, rng, generator) for source in sources]
        longest = max(ids.shape[1] for _, ids in drawn)
        ids = torch.cat([F.pad(ids, (0, longest - ids.shape[1]), value=module.config.pad_id) for _, ids in drawn])
        vectors = torch.cat([vectors for vectors, _ in drawn])
        used = int((ids != module.config.pad_id).sum(1).max())
        return module.loss(unit(vectors), ids[:, :used]), {}

    return loss


def _draw(source: Source, rng: np.random.Generator, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(rows, embedding) vectors with noise and the (rows, tokens) ids of their captions."""
    captions = source.captions
    count = len(captions.ids)
    chosen = torch.from_numpy(rng.choice(count, source.rows, replace=count < source.rows))
    vectors = captions.vectors[chosen]
    return vectors + source.noise * torch.randn(vectors.shape, generator=generator), captions.ids[chosen]


def writing_validation(captions: Captions) -> Validate[Writer]:
    """Loss on held-out captions, without noise and from the embeddings of other captions, which should be worse."""

    @torch.inference_mode()
    def validate(module: Writer) -> Metrics:
        own = module.loss(captions.vectors, captions.ids)
        other = module.loss(captions.vectors.roll(1, 0), captions.ids)
        return {"validation_loss": own.item(), "validation_other": other.item()}

    return validate
