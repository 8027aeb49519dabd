"""Mellow: questions about one recording or about two (Deshmukh et al., 2025, arXiv 2503.08540).

A recording goes waveform -> `audio_encoder` -> audio tokens; the decoder reads audio 1, separator, audio 2,
separator and the padded question, and answers. One recording fills both audio slots with the same tokens.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from alm.answering.turns import Turns
from alm.engines import Engine
from alm.heard.prefix import Reader
from alm.models.answerer import Answerer
from alm.models.mellow_self_test import mellow_self_test
from alm.package import Package, section
from alm.self_test import SelfTest
from alm.texts.prompt import PromptTokenizer


class Mellow(Answerer):
    """A loaded Mellow package. Made by `alm.load`."""

    components: ClassVar = ("audio_encoder", "token_embedding", "decoder")
    heard: ClassVar = "audio_tokens"

    @property
    def self_test(self) -> SelfTest:
        """How `alm verify` tests this model."""
        return mellow_self_test(self)

    def _load_reader(self, package: Package, engines: dict[str, Engine], turns: Turns) -> Reader:
        manifest = package.manifest
        prompt, generation = section(manifest.prompt, "prompt"), section(manifest.generation, "generation")
        vocabulary = section(manifest.decoder, "decoder").vocabulary
        # First the tokenizer: parsing it takes 20 MB more for a moment, which loading the decoder then uses.
        tokenizer = PromptTokenizer(package.read("tokenizer.json"), prompt, vocabulary)
        decoder = engines["decoder"].load_decoder(package)
        return Reader(
            decoder=decoder,
            tokenizer=tokenizer,
            separator=decoder.embed(np.array([prompt.separator_id], dtype=np.int64)),
            defaults=generation,
            room=generation.max_positions - prompt.prefix_tokens,
            package=package,
            turns=turns,
        )
