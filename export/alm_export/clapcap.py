"""Export of ClapCap: a caption for a recording."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alm_export.captioner import CaptionerExporter
from alm_export.graphs.graph import GraphBuilder
from alm_export.graphs.mapper import build_clapcap_mapper
from alm_train.models.clap import AudioTower
from alm_train.models.gpt2 import GPT2LM


class ClapCapExporter(CaptionerExporter):
    """An export of ClapCap, held against the captions of PyTorch float32."""

    weights_families = ("clapcap",)
    summary = "Describes a recording in a sentence."
    task = "audio-to-text"
    example = "alm caption PACKAGE RECORDING.wav"
    room: ClassVar = 67
    capabilities: ClassVar = ("caption",)
    clips_per_prefix: ClassVar = 1

    @property
    def tower(self) -> AudioTower:
        """The audio tower of the model."""
        return self.model.clap

    @property
    def language(self) -> GPT2LM:
        """The language model."""
        return self.model.gpt

    def mapper(self, scheme: str) -> GraphBuilder:
        """The graph of the mapper."""
        return build_clapcap_mapper(self.model, scheme)

    def map_float(self, embeddings: list[Tensor], prompt_ids: NDArray[np.int64] | None) -> Tensor:
        """One embedding (1, D) to its prefix (1, tokens, width); there is no prompt."""
        return self.model.prefix_of(embeddings[0])

    def asked(self) -> list[tuple[tuple[str, ...], NDArray[np.int64] | None]]:
        """Every clip, without a prompt."""
        return [((name,), None) for name in self.sounds]
