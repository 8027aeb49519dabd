"""What a decoder reads before the question: audio 1, separator, audio 2, separator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from alm.answering.turns import Question, TurnCache, Turns
from alm.engines.base import Decoder, Float32, KVCache
from alm.heard.audio_tokens import AudioTokens

if TYPE_CHECKING:
    from alm.package import GenerationDefaults, Package
    from alm.texts.prompt import PromptTokenizer

KEPT_PREFIXES = 4
"""Windows of a recording whose prefix is kept, 40 s of sound. At full size one takes 4 MB, and 12 MB in float32, so
past that it is run again for each question, and memory does not grow with the recording."""

Slots = tuple[AudioTokens, AudioTokens]
"""The audio tokens of both slots; the same object twice for one clip."""


def expanded(slots: Slots) -> tuple[Float32, Float32]:
    """The rows (audio_tokens, width) of both slots as the decoder reads them."""
    return slots[0].expand(), slots[1].expand()


@dataclass(frozen=True)
class Reader:
    """The language side of a model: what turns a prefix and a question into text."""

    decoder: Decoder
    """Runs embeddings and keeps the KV cache."""
    tokenizer: PromptTokenizer
    """Turns questions into ids and ids into text."""
    separator: Float32
    """The embedding (1, width) that closes each audio slot."""
    defaults: GenerationDefaults
    """Stop token and default number of tokens."""
    room: int
    """Most tokens that can follow a question."""
    package: Package
    """Where all of this comes from; saved sessions name it."""
    turns: Turns
    """Who may run on the engine."""

    keeps_prefixes: ClassVar[bool] = True
    """Whether the part of the prefix before the question is the same for every question, and worth keeping."""

    def prompt(self, question: str | None, *, truncate: bool = False) -> Float32:
        """The embeddings (T, width) of a question; none for None, where the model takes no question.

        Raises PromptError as `PromptTokenizer.prompt` does.
        """
        ids = self.tokenizer.prompt(question, truncate=truncate)
        return self.decoder.embed(ids) if len(ids) else np.empty((0, self.separator.shape[1]), np.float32)

    def read(self, window: HeardWindow, prompt: Float32, question: Question | None) -> tuple[KVCache, Float32]:
        """A cache of the caller's own that holds a window and a prompt, and the logits (vocabulary,) that follow."""
        cache = window.prefix(self, question)
        return cache, cache.append(prompt)

    def run_prefix(self, audio: tuple[Float32, Float32], question: Question | None = None) -> KVCache:
        """A new cache that holds the prefix of two slots of audio tokens (audio_tokens, width), run in a turn."""
        cache = self.decoder.new_cache()
        with self.turns.turn(question):
            cache.append(np.concatenate([audio[0], self.separator, audio[1], self.separator]))
        return cache


@dataclass(frozen=True, eq=False)
class KeptPrefix:
    """What listening to one window, or one pair, came to."""

    slots: Slots
    """The audio tokens of both slots."""
    cache: KVCache
    """The cache over the prefix. Nothing is appended to it, only to its forks."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that tokens and cache take."""
        return sum(tokens.nbytes for tokens in set(self.slots)) + self.cache.nbytes


@dataclass(frozen=True)
class HeardWindow:
    """One window of a recording (or of a pair of recordings) after the audio encoder."""

    start: float
    """Seconds into the recording at which the window starts."""
    end: float
    """Seconds into the recording at which it ends."""
    slots: Slots
    """The audio tokens of both slots."""
    kept: KVCache | None
    """The cache over the prefix, shared with other sessions; None where the prefix is run for each question."""

    def prefix(self, reader: Reader, question: Question | None = None) -> KVCache:
        """A cache of the caller's own that holds the prefix; its runs take turns, and stop with `question`."""
        cache = reader.run_prefix(expanded(self.slots), question) if self.kept is None else self.kept.fork()
        return TurnCache(cache, reader.turns, question)
