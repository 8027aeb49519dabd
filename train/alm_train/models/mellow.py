"""Mellow: HTS-AT, a projection to decoder width, and SmolLM2, answering about two clips.

Source: Mellow paper (arXiv 2503.08540) and soham97/mellow. Parameter names are those of the official checkpoint.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from alm_train.models.htsat import HTSAT, HTSATConfig, HTSATOutput
from alm_train.models.projection import Projection
from alm_train.models.smollm2 import SmolLM2, SmolLM2Config


@dataclass(frozen=True)
class MellowConfig:
    """Shape of the model and of its prompt. The defaults are the official checkpoint."""

    encoder: HTSATConfig = field(default_factory=HTSATConfig)
    """Audio encoder."""
    decoder: SmolLM2Config = field(default_factory=SmolLM2Config)
    """Language model."""
    repeat: int = 4
    """Audio tokens per distinct frame row: upstream pools 1024 repeated rows to 128, of which 32 differ."""
    prompt_tokens: int = 129
    """Places for the question; shorter ones are padded, and the padding is attended."""
    separator_id: int = 0
    """Token whose embedding follows each clip."""
    pad_id: int = 17
    """Token that fills the question's places (`!`)."""
    stop_id: int = 0
    """Token that ends an answer."""

    @property
    def audio_tokens(self) -> int:
        """Audio tokens of one clip."""
        return 1 + self.encoder.positions * self.repeat

    @property
    def prefix_tokens(self) -> int:
        """Positions before the first generated token."""
        return 2 * (self.audio_tokens + 1) + self.prompt_tokens

    def to_dict(self) -> dict[str, Any]:
        """Nested plain data, as stored beside weights."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> MellowConfig:
        """Inverse of `to_dict`, also after a trip through JSON."""
        nested = {
            "encoder": HTSATConfig.from_dict(data["encoder"]),
            "decoder": SmolLM2Config(**data["decoder"]),
        }
        return cls(**{**data, **nested})


class Mellow(nn.Module):
    """Two clips and a question in, text out."""

    def __init__(self, config: MellowConfig) -> None:
        super().__init__()
        self.config = config
        self.audio_encoder = AudioEncoder(config)
        self.caption_decoder = CaptionDecoder(config.decoder)

    def audio_tokens(self, waveform: Tensor) -> Tensor:
        """(B, samples) to (B, audio_tokens, width)."""
        return self.expand(self.audio_encoder(waveform))

    def expand(self, rows: Tensor) -> Tensor:
        """(B, 1 + positions, width) distinct rows to audio tokens: each frame comes `repeat` times."""
        frames = rows[:, 1:].repeat_interleave(self.config.repeat, 1)
        return torch.cat((rows[:, :1], frames), 1)

    def embed(self, ids: Tensor) -> Tensor:
        """(B, T) token ids to (B, T, width)."""
        return self.caption_decoder.lm.model.embed_tokens(ids)

    def prefix(self, audio1: Tensor, audio2: Tensor, prompt_ids: Tensor) -> Tensor:
        """Audio tokens of both clips and (B, prompt_tokens) ids to the (B, prefix_tokens, width) prefix."""
        separator = self.embed(prompt_ids.new_full((len(prompt_ids), 1), self.config.separator_id))
        return torch.cat((audio1, separator, audio2, separator, self.embed(prompt_ids)), 1)

    def pad(self, ids: Sequence[int]) -> list[int]:
        """A question's ids cut and right-padded to `prompt_tokens`, as the authors' wrapper does."""
        places = self.config.prompt_tokens
        return list(ids[:places]) + [self.config.pad_id] * (places - len(ids))

    @torch.inference_mode()
    def generate(self, prefix: Tensor, max_tokens: int) -> list[int]:
        """Greedy token ids after a (1, T, width) prefix, the stop token included when it comes.

        The authors' nucleus sampler takes the most probable token whatever its settings, so
        greedy decoding is exactly theirs.
        """
        decoder = self.caption_decoder.lm
        cache = decoder.new_cache()
        embeddings, ids = prefix, []
        for _ in range(max_tokens):
            ids.append(int(decoder(embeddings, cache)[0, -1].argmax()))
            if ids[-1] == self.config.stop_id:
                break
            embeddings = self.embed(torch.tensor([[ids[-1]]]))
        return ids


class AudioEncoder(nn.Module):
    """Waveform to the distinct rows of the prefix."""

    def __init__(self, config: MellowConfig) -> None:
        super().__init__()
        self.base = Tagger(config.encoder)
        self.projection = Projection(config.encoder.final_width, config.decoder.width)

    def forward(self, waveform: Tensor) -> Tensor:
        """(B, samples) to (B, 1 + positions, width): the latent row, then one row per distinct frame."""
        return self.project(self.base.htsat(waveform))

    def project(self, output: HTSATOutput) -> Tensor:
        """Encoder outputs to rows; apart from `forward` so that training can keep encoder outputs."""
        rows = torch.cat((output.latent.unsqueeze(1), self.base.c2l(output.frames)), 1)
        return self.projection(rows)


class Tagger(nn.Module):
    """HTS-AT and the linear map from class probabilities to its latent size."""

    def __init__(self, config: HTSATConfig) -> None:
        super().__init__()
        self.htsat = HTSAT(config)
        self.c2l = nn.Linear(config.classes, config.final_width)


class CaptionDecoder(nn.Module):
    """Holds the language model under the name that the official checkpoint uses."""

    def __init__(self, config: SmolLM2Config) -> None:
        super().__init__()
        self.lm = SmolLM2(config)
