"""ADIFF: two clips and a prompt, mixed by a transformer over all of them, to an explanation of the difference.

Source: "ADIFF: Explaining audio difference using natural language" (arXiv 2502.04476) and soham97/ADIFF. Parameter
names are those of the official checkpoint.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from alm_train.models.clap import AudioTower
from alm_train.models.gpt2 import GPT2LM, GPT2Config
from alm_train.models.htsat import HTSATConfig
from alm_train.models.mapper import Mapper, Transformer
from alm_train.models.two_towers import unit


@dataclass(frozen=True)
class AdiffConfig:
    """Shape of the model and of its prompt. The defaults are the official checkpoint."""

    encoder: HTSATConfig = field(default_factory=HTSATConfig)
    """Audio encoder: 10 s at 32 kHz."""
    decoder: GPT2Config = field(default_factory=GPT2Config)
    """Language model."""
    embedding: int = 1024
    """Size of the audio tower's output."""
    slot_tokens: int = 40
    """Tokens that each clip and the prompt get; longer prompts are cut."""
    mapper_layers: int = 4
    """Layers of each mapper."""
    mapper_heads: int = 8
    """Attention heads of each mapper."""
    cross_layers: int = 4
    """Layers over the whole prefix."""
    cross_heads: int = 4
    """Attention heads over the whole prefix."""
    separator_id: int = 50256
    """Token whose embedding stands between the clips (`<|endoftext|>`)."""
    pad_id: int = 0
    """Token that fills the prompt's places (`!`); it is attended."""
    stop_id: int = 220
    """Token that ends an answer: the lone space in front of `<|endoftext|>`, as the authors look it up."""

    @property
    def prefix_tokens(self) -> int:
        """Positions before the first generated token."""
        return 3 * self.slot_tokens + 1

    def to_dict(self) -> dict[str, Any]:
        """Nested plain data, as stored beside weights."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> AdiffConfig:
        """Inverse of `to_dict`, also after a trip through JSON."""
        nested = {"encoder": HTSATConfig.from_dict(data["encoder"]), "decoder": GPT2Config(**data["decoder"])}
        return cls(**{**data, **nested})


class Adiff(nn.Module):
    """Two clips and a prompt in, text out."""

    def __init__(self, config: AdiffConfig) -> None:
        super().__init__()
        self.config = config
        self.audio_encoder = AudioTower(config.encoder, config.embedding)
        self.caption_decoder = CaptionDecoder(config)

    def prefix(self, audio1: Tensor, audio2: Tensor, prompt_ids: Tensor) -> Tensor:
        """Two (B, samples) clips and (B, slot_tokens) ids to the (B, prefix_tokens, width) prefix."""
        first, second = self.audio_encoder(torch.cat((audio1, audio2))).chunk(2)
        return self.caption_decoder.prefix(first, second, prompt_ids)

    def pad(self, ids: Sequence[int]) -> list[int]:
        """A prompt's ids cut and right-padded to `slot_tokens`, as the authors' tokenizer settings do."""
        places = self.config.slot_tokens
        return list(ids[:places]) + [self.config.pad_id] * (places - len(ids))


class CaptionDecoder(nn.Module):
    """The mappers, the mixing transformer and the language model."""

    def __init__(self, config: AdiffConfig) -> None:
        super().__init__()
        self.config = config
        width, tokens = config.decoder.width, config.slot_tokens
        layers, heads = config.mapper_layers, config.mapper_heads
        # Weights of its own per clip: the model can tell first from second before they meet.
        self.audio_project1 = Mapper(width, tokens, layers, heads, config.embedding)
        self.audio_project2 = Mapper(width, tokens, layers, heads, config.embedding)
        self.text_project = Mapper(width, tokens, layers, heads)
        self.cross_project = Transformer(width, config.cross_layers, config.cross_heads)
        self.gpt = GPT2LM(config.decoder)

    def prefix(self, first: Tensor, second: Tensor, prompt_ids: Tensor) -> Tensor:
        """(B, embedding) of both clips and (B, slot_tokens) ids to (B, prefix_tokens, width)."""
        separator = self.gpt.embed(prompt_ids.new_full((len(prompt_ids), 1), self.config.separator_id))
        parts = (
            self.audio_project1.from_vector(unit(first)),
            separator,
            self.audio_project2.from_vector(unit(second)),
            self.text_project(self.gpt.embed(prompt_ids)),
        )
        return self.cross_project(torch.cat(parts, 1))
