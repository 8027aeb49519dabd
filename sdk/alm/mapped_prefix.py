"""The language side of models whose prefix is mixed from everything at once, and so made anew for each question.

The component `mapper` takes the embeddings of one clip or two, and the question where the model takes one, to the
prefix. Nothing of it can be kept from one question to the next but the embeddings, which is where the time goes.
"""

from __future__ import annotations

from dataclasses import dataclass

from alm.engines.base import Array, Float32, Graph, KVCache
from alm.package import MapperInfo
from alm.prefix import HeardWindow, Reader, expanded
from alm.turns import Question, TurnCache


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
