"""CLAP 2023: an audio tower and a text tower whose embeddings meet in one space.

Source: "Natural Language Supervision for General-Purpose Audio Representations" (arXiv 2309.05767) and CLAP fact
sheet sections 2 to 7. Parameter names are those of the official checkpoint.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from alm_train.models.frontend import FrontendConfig
from alm_train.models.gpt2 import GPT2, GPT2Config
from alm_train.models.htsat import HTSAT, HTSATConfig
from alm_train.models.projection import Projection
from alm_train.models.two_towers import TwoTowers

SUFFIX = " <|endoftext|>"
"""Put behind every text before it is tokenized: a lone space token, then the end token whose place is pooled."""

CLAP_FRONTEND = FrontendConfig(sample_rate=44100, samples=7 * 44100, bank_rate=32000)
"""7 s at 44.1 kHz through the filter bank of 32 kHz: 965 frames, which the encoder stretches to 1024."""


@dataclass(frozen=True)
class ClapConfig:
    """Shape of both towers. The defaults are the official checkpoint of 2023."""

    encoder: HTSATConfig = field(default_factory=lambda: HTSATConfig(CLAP_FRONTEND))
    """Audio encoder."""
    text: GPT2Config = field(default_factory=GPT2Config)
    """Text encoder."""
    embedding: int = 1024
    """Size of the shared space."""
    text_tokens: int = 77
    """Places for a text; shorter ones are padded."""
    pad_id: int = 0
    """Token that fills the places (`!`)."""

    def to_dict(self) -> dict[str, Any]:
        """Nested plain data, as stored beside weights."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ClapConfig:
        """Inverse of `to_dict`, also after a trip through JSON."""
        nested = {"encoder": HTSATConfig.from_dict(data["encoder"]), "text": GPT2Config(**data["text"])}
        return cls(**{**data, **nested})


class Clap(TwoTowers):
    """HTS-AT and GPT-2. Texts are read with `SUFFIX` behind them."""

    def __init__(self, config: ClapConfig) -> None:
        super().__init__(
            AudioTower(config.encoder, config.embedding), TextTower(config.text, config.embedding, config.pad_id)
        )
        self.config = config

    def pad(self, ids: Sequence[int]) -> list[int]:
        """A text's ids right-padded to `text_tokens`; the authors' wrapper pads and never cuts."""
        return list(ids) + [self.config.pad_id] * (self.config.text_tokens - len(ids))


class AudioTower(nn.Module):
    """HTS-AT's clip vector, projected."""

    def __init__(self, config: HTSATConfig, out: int) -> None:
        super().__init__()
        self.base = AudioBase(config)
        self.projection = Projection(config.final_width, out)

    def forward(self, waveform: Tensor) -> Tensor:
        """(B, samples) to (B, out)."""
        return self.projection(self.base.htsat(waveform).latent)


class AudioBase(nn.Module):
    """Holds the audio encoder under the name that the official checkpoint uses."""

    def __init__(self, config: HTSATConfig) -> None:
        super().__init__()
        self.htsat = HTSAT(config)


class TextTower(nn.Module):
    """GPT-2's hidden state at a text's last token, projected."""

    def __init__(self, config: GPT2Config, out: int, pad_id: int) -> None:
        super().__init__()
        self.pad_id = pad_id
        self.base = GPT2(config)
        self.projection = Projection(config.width, out)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) to (B, out).

        The place is the number of ids that are no pad, less one. Attention is causal, so the padding behind it
        changes nothing; but every pad token inside the text moves it one place to the left, as upstream.
        """
        hidden = self.base(self.base.wte(ids))
        last = (ids != self.pad_id).sum(1) - 1
        return self.projection(hidden[torch.arange(len(ids), device=ids.device), last])
