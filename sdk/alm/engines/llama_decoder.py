"""A llama.cpp decoder and its KV caches.

Each cache that advances has a seat, a llama.cpp context of its own; a single user needs one. A cache without a seat
is a snapshot of its keys and values, and takes the seat of a cache that nobody has, of one that has a snapshot
already, as every kept prefix does, or of the one that was used least lately.
"""

from __future__ import annotations

import threading

import numpy as np

from alm.engines.base import Array, Embedding, Float32, Int64, check_append, check_rewind
from alm.engines.llama_seat import Room, Seat
from alm.errors import EngineError

SEATS = 4
"""Contexts at most. At full size one takes 16 MB for keys and values as float16, and 24 to compute in."""


class LlamaDecoder:
    """Safe to use from several threads: runs go one at a time."""

    def __init__(self, embedding: Embedding, room: Room) -> None:
        self._embedding = embedding
        self._room = room
        self.layout = room.layout
        """How keys and values are stored."""
        self.lock = threading.Lock()
        """Held while a seat is used."""
        self._seats = [Seat(room)]
        self._clock = 0

    def embed(self, ids: Int64) -> Float32:
        """(T,) ids to (T, width); EngineError for an id outside the vocabulary."""
        return self._embedding(ids)

    def new_cache(self) -> LlamaKVCache:
        """An empty cache, which takes a seat when it is first used."""
        return LlamaKVCache(self)

    def cache_from(self, state: Array) -> LlamaKVCache:
        """A cache over the positions of a state (2, layers, positions, kv_heads * head_dim), keys before values."""
        shape, layout = self.layout.shape, self.layout
        fits = state.ndim == 4 and state.shape[:2] == (2, shape.layers) and state.shape[3] == layout.width
        if state.dtype != layout.number or not fits or not 1 <= state.shape[2] <= shape.max_positions:
            raise EngineError(
                f"found keys and values of type {state.dtype} and shape {state.shape}; this decoder takes "
                f"{layout.number} of (2, {shape.layers}, 1 to {shape.max_positions}, {layout.width})"
            )
        if not np.isfinite(state).all():
            raise EngineError("the keys and values are not all finite numbers")
        cache = LlamaKVCache(self)
        cache.length, cache.snapshot = state.shape[2], layout.pack(state)
        with self.lock:
            # At once, so that what llama.cpp does not take is refused here and not at the first question.
            self.seat(cache)
        return cache

    def seat(self, cache: LlamaKVCache) -> Seat:
        """The seat of `cache`, which takes one if it has none. The caller holds the lock."""
        self._clock += 1
        seat = cache.seat
        if seat is None:
            seat = self._place()
            seat.take(cache)
        seat.used = self._clock
        return seat

    def _place(self) -> Seat:
        holders = [(seat, seat.holder) for seat in self._seats]
        if free := [seat for seat, holder in holders if holder is None or holder.snapshot is not None]:
            return free[0]
        if len(self._seats) < SEATS:
            self._seats.append(Seat(self._room))
            return self._seats[-1]
        return min(self._seats, key=lambda seat: seat.used)


class LlamaKVCache:
    """One sequence."""

    def __init__(self, decoder: LlamaDecoder) -> None:
        self._decoder = decoder
        self.length = 0
        """Positions held."""
        self.seat: Seat | None = None
        """Where its keys and values are, if not in its snapshot alone. Changed by seats only."""
        self.snapshot: bytes | None = None
        """Its keys and values as they are now, where somebody needed them outside of a seat."""

    @property
    def capacity(self) -> int:
        """Positions that fit."""
        return self._decoder.layout.shape.max_positions

    @property
    def nbytes(self) -> int:
        """Bytes of its keys and values."""
        return self.length * self._decoder.layout.position_bytes

    def append(self, embeddings: Float32) -> Float32:
        """Run the decoder on (T, width); the logits (vocabulary,) of the last position."""
        logits: Float32 = self._run(embeddings, every=False)[0]
        return logits

    def append_all(self, embeddings: Float32) -> Float32:
        """Run the decoder on (T, width); the logits (T, vocabulary) of every position."""
        return self._run(embeddings, every=True)

    def rewind(self, length: int) -> None:
        """Forget every position from `length` on."""
        check_rewind(length, self.length)
        if length == self.length:
            return
        with self._decoder.lock:
            self._decoder.seat(self).keep(length)
            self.length, self.snapshot = length, None

    def fork(self) -> LlamaKVCache:
        """An independent cache that holds the same positions."""
        fork = LlamaKVCache(self._decoder)
        with self._decoder.lock:
            if self.seat is not None:
                self.seat.snapshot(self)
            fork.length, fork.snapshot = self.length, self.snapshot
        return fork

    def state(self) -> Array:
        """A copy (2, layers, positions, kv_heads * head_dim) of the keys and values, keys before values."""
        with self._decoder.lock:
            if self.seat is not None:
                self.seat.snapshot(self)
            snapshot = self.snapshot
        if snapshot is None:
            raise EngineError("the cache holds no positions yet, so there are no keys and values to give out")
        return self._decoder.layout.unpack(snapshot, self.length)

    def _run(self, embeddings: Float32, every: bool) -> Float32:
        decoder = self._decoder
        check_append(embeddings, self.length, decoder.layout.shape)
        with decoder.lock:
            seat = decoder.seat(self)
            self.snapshot = None
            try:
                logits = seat.run(embeddings, every)
            except BaseException:
                seat.keep(self.length)
                raise
            self.length += len(embeddings)
            return logits
