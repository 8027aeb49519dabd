"""ADIFF: what differs between two recordings, at the length asked for (Deshmukh et al., 2025, arXiv 2502.04476).

A recording goes waveform -> `audio_encoder` -> embedding; `mapper` mixes both embeddings and the padded prompt to the
prefix. The authors' prompts are "explain the difference between the two audio in few words", "... in one extended
sentence" and "... in detail", and "caption the first audio", "... the second audio", "caption both the audios".
"""

from __future__ import annotations

from typing import ClassVar

from alm.answering.turns import Turns
from alm.engines import Engine
from alm.heard.mapped_prefix import MappedReader, load_mapped_reader
from alm.models.answerer import Answerer
from alm.models.captioner_self_test import captioner_self_test
from alm.package import Package
from alm.self_test import SelfTest


class Adiff(Answerer):
    """A loaded ADIFF package. Made by `alm.load`."""

    components: ClassVar = ("audio_encoder", "mapper", "token_embedding", "decoder")
    heard: ClassVar = "embedding"

    @property
    def self_test(self) -> SelfTest:
        """How `alm verify` tests this model."""
        return captioner_self_test(self)

    def _load_reader(self, package: Package, engines: dict[str, Engine], turns: Turns) -> MappedReader:
        return load_mapped_reader(package, engines, turns)
