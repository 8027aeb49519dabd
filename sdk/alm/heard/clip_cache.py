"""What was heard lately, found again by the sound itself, within a limit of bytes."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

import numpy as np

from alm.engines.base import Float32
from alm.errors import AlmError

CACHE_BYTES = 64_000_000
"""The default limit: four float32 prefixes of full-size Mellow and their audio tokens, or more that are in 8 bits."""

Key = tuple[bytes, ...]


class Sized(Protocol):
    """Something that knows what it takes."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        ...


T = TypeVar("T", bound=Sized)


@dataclass(frozen=True)
class CacheCounts:
    """What a cache did and holds."""

    hits: int
    """Look-ups that found what they asked for, or waited for another thread that was making it."""
    misses: int
    """Look-ups whose encoder pass or prefill had to run."""
    entries: int
    """Encodings and prefixes held."""
    bytes: int
    """Memory of all entries; what two of them share is counted in both, so it never takes more than this."""
    limit: int
    """Most bytes the cache holds."""


class ClipCache:
    """Encodings and prefixes by the hash of their sound; the least recently used leave. Safe to use from threads.

    An entry that leaves lives on in the sessions that use it, and a session that is closed takes nothing from here.
    """

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        """Hold at most `limit` bytes; 0 keeps nothing. AlmError unless it is a whole number from 0."""
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
            raise AlmError(f"cache_bytes is {limit!r}; it must be a whole number of bytes, at least 0 (keep nothing)")
        self._limit = limit
        self._mutex = threading.Lock()
        self._entries: OrderedDict[Key, Sized] = OrderedDict()
        self._bytes = self._hits = self._misses = 0
        self._making: dict[Key, _Making] = {}

    @property
    def counts(self) -> CacheCounts:
        """How often it helped so far, and what it holds now."""
        with self._mutex:
            return CacheCounts(self._hits, self._misses, len(self._entries), self._bytes, self._limit)

    def get(self, key: Key, make: Callable[[], T]) -> T:
        """What is held under `key`; made by `make` when nothing is, by one thread also if several ask at once.

        Where another thread's `make` fails, its error is its own, and this thread makes the entry itself.
        """
        while True:
            with self._mutex:
                if key in self._entries:
                    self._hits += 1
                    self._entries.move_to_end(key)
                    return cast(T, self._entries[key])
                making = self._making.get(key)
                if making is None:
                    self._misses += 1
                    mine = self._making[key] = _Making()
                    break
            making.done.wait()
            if making.made is not None:
                with self._mutex:
                    self._hits += 1
                return cast(T, making.made)
        try:
            made = make()
            mine.made = made
            self._put(key, made)
            return made
        finally:
            with self._mutex:
                del self._making[key]
            mine.done.set()

    def close(self) -> None:
        """Let go of everything and keep nothing from now on."""
        with self._mutex:
            self._limit = 0
            self._shrink()

    def _put(self, key: Key, entry: Sized) -> None:
        with self._mutex:
            # One entry past the limit would drive out all others and then itself.
            if entry.nbytes <= self._limit:
                self._entries[key] = entry
                self._bytes += entry.nbytes
                self._shrink()

    def _shrink(self) -> None:
        while self._bytes > self._limit:
            _, entry = self._entries.popitem(last=False)
            self._bytes -= entry.nbytes


class _Making:
    """An entry that one thread makes and others wait for."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.made: Sized | None = None


def sound_hash(samples: Float32) -> bytes:
    """What a window of sound is found by: 128 bits over its samples (n,), so that no file name and no rate matter.

    The samples are those the encoder gets, after decoding, resampling and the window policy.
    """
    return hashlib.blake2b(np.ascontiguousarray(samples, np.float32).data, digest_size=16).digest()
