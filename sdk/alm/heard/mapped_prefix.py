"""The language side of models whose prefix is mixed from everything at once, and so made anew for each question.

The component `mapper` takes the embeddings of one clip or two, and the question where the model takes one, to the
prefix. Nothing of it can be kept from one question to the next but the embeddings, which is where the time goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from alm.answering.turns import Question, TurnCache, Turns
from alm.engines.base import Array, Engine, Float32, Graph, KVCache
from alm.heard.prefix import HeardWindow, Reader, expanded
from alm.package import MapperInfo, Package, section
from alm.texts.prompt import PromptTokenizer


@dataclass(frozen=True)
class MappedReader(Reader):
    """A reader with a mapper before its decoder. A slot's audio tokens are one row, the embedding of a clip."""

    mapper: Graph
    """Embeddings `first` (and `second`) (1, width), and `prompt` (T, width), to `prefix` (1, tokens, width)."""
    info: MapperInfo
    """What the mapper takes and gives."""

    keeps_prefixes = False

    def read(self, window: HeardWindow, prompt: Float32, question: Question | None) -> tuple[KVCache, Float32]:
        """A new cache that holds the prefix of a window and a prompt, and the logits (vocabulary,) that follow."""
        cache = TurnCache(self.decoder.new_cache(), self.turns, question)
        with self.turns.turn(question):
            prefix = self.prefix(*expanded(window.slots), prompt)
        return cache, cache.append(prefix)

    def prefix(self, first: Float32, second: Float32, prompt: Float32) -> Float32:
        """The prefix (tokens, width) of two embeddings (1, width) and a prompt (T, width)."""
        inputs: dict[str, Array] = {"first": first}
        if self.info.clips == 2:
            inputs["second"] = second
        if len(prompt):
            inputs["prompt"] = prompt
        made: Float32 = self.mapper.run(["prefix"], **inputs)["prefix"][0]
        return made


def load_mapped_reader(package: Package, engines: Mapping[str, Engine], turns: Turns) -> MappedReader:
    """The language side of a package with a mapper, from the engines of its components."""
    manifest = package.manifest
    info, generation = section(manifest.mapper, "mapper"), section(manifest.generation, "generation")
    shape = section(manifest.decoder, "decoder")
    tokenizer = PromptTokenizer(package.read("tokenizer.json"), manifest.prompt, shape.vocabulary, info.suffix)
    return MappedReader(
        decoder=engines["decoder"].load_decoder(package),
        tokenizer=tokenizer,
        separator=np.empty((0, shape.width), np.float32),  # the mapper brings its own
        defaults=generation,
        room=generation.max_positions - info.tokens,
        package=package,
        turns=turns,
        mapper=engines["mapper"].load_graph(package, "mapper"),
        info=info,
    )
