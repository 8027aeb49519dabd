"""ClapCap: CLAP's audio tower, a mapper to a prefix, and GPT-2, captioning one clip.

Source: CLAP 2023 (arXiv 2309.05767) and microsoft/CLAP. Parameter names are those of the official checkpoint.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from alm_train.models.clap import CLAP_FRONTEND, AudioTower
from alm_train.models.gpt2 import GPT2LM, GPT2Config
from alm_train.models.htsat import HTSATConfig
from alm_train.models.mapper import Mapper
from alm_train.models.two_towers import unit


@dataclass(frozen=True)
class ClapCapConfig:
    """Shape of the captioner. The defaults are the official checkpoint of 2023."""

    encoder: HTSATConfig = field(default_factory=lambda: HTSATConfig(CLAP_FRONTEND))
    """Audio encoder."""
    decoder: GPT2Config = field(default_factory=GPT2Config)
    """Language model."""
    embedding: int = 1024
    """Size of the audio tower's output."""
    prefix_tokens: int = 40
    """Positions before the first generated token, and learned constants of the mapper."""
    mapper_layers: int = 8
    """Layers of the mapper."""
    mapper_heads: int = 8
    """Attention heads of the mapper."""
    pad_id: int = 0
    """Pad token (`!`); captioning pads nothing, training does."""
    stop_id: int = 220
    """Token that ends a caption: the lone space in front of `<|endoftext|>`, as the authors look it up."""

    def to_dict(self) -> dict[str, Any]:
        """Nested plain data, as stored beside weights."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ClapCapConfig:
        """Inverse of `to_dict`, also after a trip through JSON."""
        nested = {"encoder": HTSATConfig.from_dict(data["encoder"]), "decoder": GPT2Config(**data["decoder"])}
        return cls(**{**data, **nested})


class ClapCap(nn.Module):
    """A clip in, a caption out."""

    def __init__(self, config: ClapCapConfig) -> None:
        super().__init__()
        self.config = config
        self.clap = AudioTower(config.encoder, config.embedding)
        self.clap_project = Mapper(
            config.decoder.width, config.prefix_tokens, config.mapper_layers, config.mapper_heads, config.embedding
        )
        self.gpt = GPT2LM(config.decoder)

    def prefix(self, waveform: Tensor) -> Tensor:
        """(B, samples) to (B, prefix_tokens, width)."""
        return self.prefix_of(self.clap(waveform))

    def prefix_of(self, embedding: Tensor) -> Tensor:
        """(B, embedding) of either CLAP tower, not normalised, to (B, prefix_tokens, width)."""
        return self.clap_project.from_vector(unit(embedding))
