"""Export of ADIFF: what differs between two recordings."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alm.package import PromptLayout
from alm.texts.prompt import PromptTokenizer
from alm_export.captioner import CaptionerExporter
from alm_export.graphs.graph import GraphBuilder
from alm_export.graphs.mapper import build_adiff_mapper
from alm_train.models.clap import SUFFIX, AudioTower
from alm_train.models.gpt2 import GPT2LM

TIERS = ("in few words", "in one extended sentence", "in detail")
"""The authors' three lengths of an answer."""
QUESTION = "explain the difference between the two audio {}"


class AdiffExporter(CaptionerExporter):
    """An export of ADIFF, held against the answers of PyTorch float32."""

    weights_families = ("adiff",)
    summary = "Explains the difference between two recordings, in few words, a sentence or in detail."
    task = "audio-text-to-text"
    example = 'alm compare PACKAGE FIRST.wav SECOND.wav "explain the difference between the two audio in few words"'
    room: ClassVar = 300
    capabilities: ClassVar = ("ask", "compare")
    clips_per_prefix: ClassVar = 2
    suffix: ClassVar = SUFFIX

    @property
    def tower(self) -> AudioTower:
        """The audio tower of the model."""
        return self.model.audio_encoder

    @property
    def language(self) -> GPT2LM:
        """The language model."""
        return self.model.caption_decoder.gpt

    def layout(self) -> PromptLayout:
        """How a prompt is laid out; the authors do not lower-case it."""
        config = self.config
        return PromptLayout(
            audio_tokens=1,
            separator_id=config.separator_id,
            prompt_tokens=config.slot_tokens,
            pad_id=config.pad_id,
            lowercase=False,
        )

    def mapper(self, scheme: str) -> GraphBuilder:
        """The graph of the mapper."""
        return build_adiff_mapper(self.model, scheme)

    def map_float(self, embeddings: list[Tensor], prompt_ids: NDArray[np.int64] | None) -> Tensor:
        """Two embeddings (1, D) and a padded prompt (T,) to their prefix (1, tokens, width)."""
        assert prompt_ids is not None
        return self.model.caption_decoder.prefix(embeddings[0], embeddings[1], torch.from_numpy(prompt_ids)[None])

    def asked(self) -> list[tuple[tuple[str, ...], NDArray[np.int64] | None]]:
        """Every clip beside the next one and a padded prompt (T,), the three lengths in turn."""
        vocabulary = self.config.decoder.vocabulary
        tokenizer = PromptTokenizer(self.weights.tokenizer.encode(), self.layout(), vocabulary, self.suffix)
        # Cut as the authors cut: a small model's tokenizer may need more tokens than there are places.
        prompts = [tokenizer.prompt(QUESTION.format(tier), truncate=True) for tier in TIERS]
        names = list(self.sounds)
        following = names[1:] + names[:1]
        return [(pair, prompts[index % len(TIERS)]) for index, pair in enumerate(zip(names, following, strict=True))]
