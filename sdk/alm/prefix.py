"""What a decoder reads before the question: audio 1, separator, audio 2, separator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from alm.audio_tokens import AudioTokens
from alm.engines.base import Decoder, Float32, KVCache

if TYPE_CHECKING:
    from alm.package import GenerationDefaults
    from alm.prompt import PromptTokenizer


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

    def run_prefix(self, slots: tuple[AudioTokens, AudioTokens]) -> KVCache:
        """A new cache that holds the prefix of two audio slots."""
        cache = self.decoder.new_cache()
        first, second = (tokens.expand() for tokens in slots)
        cache.append(np.concatenate([first, self.separator, second, self.separator]))
        return cache


@dataclass(frozen=True)
class HeardWindow:
    """One window of a recording (or of a pair of recordings) after the audio encoder."""

    start: float
    """Seconds into the recording at which the window starts."""
    end: float
    """Seconds into the recording at which it ends."""
    slots: tuple[AudioTokens, AudioTokens]
    """The audio tokens of both slots; the same object twice for one clip."""
    kept: KVCache | None
    """The cache over the prefix; None where the prefix is run again for each question."""

    def prefix(self, reader: Reader) -> KVCache:
        """A cache of the caller's own that holds the prefix."""
        return reader.run_prefix(self.slots) if self.kept is None else self.kept.fork()
