"""CLAP 2022: the first of the family, with CNN14 to hear and BERT to read.

Source: "CLAP: Learning audio concepts from natural language supervision" (arXiv 2206.04769) and microsoft/CLAP.
Parameter names are those of the official checkpoint. Its texts are tokenized as BERT's, without a suffix.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from alm_train.models.bert import Bert, BertConfig
from alm_train.models.cnn14 import Cnn14, Cnn14Config
from alm_train.models.projection import Projection
from alm_train.models.two_towers import TwoTowers


@dataclass(frozen=True)
class Clap2022Config:
    """Shape of both towers. The defaults are the official checkpoint."""

    encoder: Cnn14Config = field(default_factory=Cnn14Config)
    """Audio encoder."""
    text: BertConfig = field(default_factory=BertConfig)
    """Text encoder."""
    embedding: int = 1024
    """Size of the shared space."""
    text_tokens: int = 100
    """Places for a text; shorter ones are padded."""
    pad_id: int = 0
    """Token that fills the places (`[PAD]`)."""

    def to_dict(self) -> dict[str, Any]:
        """Nested plain data, as stored beside weights."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Clap2022Config:
        """Inverse of `to_dict`, also after a trip through JSON."""
        nested = {"encoder": Cnn14Config.from_dict(data["encoder"]), "text": BertConfig(**data["text"])}
        return cls(**{**data, **nested})


class Clap2022(TwoTowers):
    """CNN14 and BERT."""

    def __init__(self, config: Clap2022Config) -> None:
        super().__init__(
            AudioTower(config.encoder, config.embedding), TextTower(config.text, config.embedding, config.pad_id)
        )
        self.config = config


class AudioTower(nn.Module):
    """CNN14's clip vector, projected."""

    def __init__(self, config: Cnn14Config, out: int) -> None:
        super().__init__()
        self.base = Cnn14(config)
        self.projection = Projection(config.embedding, out)

    def forward(self, waveform: Tensor) -> Tensor:
        """(B, samples) to (B, out)."""
        return self.projection(self.base(waveform))


class TextTower(nn.Module):
    """BERT's hidden state at the first token, [CLS], projected."""

    def __init__(self, config: BertConfig, out: int, pad_id: int) -> None:
        super().__init__()
        self.pad_id = pad_id
        self.base = Bert(config)
        self.projection = Projection(config.width, out)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) to (B, out)."""
        return self.projection(self.base(ids, ids != self.pad_id)[:, 0])
