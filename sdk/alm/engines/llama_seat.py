"""One context of llama.cpp: room for the keys and values of one cache at a time."""

from __future__ import annotations

import ctypes
import weakref
from dataclasses import dataclass
from typing import Protocol

import llama_cpp as llama
import numpy as np

from alm.engines.base import Float32
from alm.engines.llama_state import StateLayout
from alm.errors import EngineError

LEAST_BATCH = 32
"""Positions that a batch has room for, at least."""


class LlamaModel:
    """Loaded weights, freed when the last context of theirs is."""

    def __init__(self, pointer: llama.llama_model_p) -> None:
        self.pointer = pointer
        weakref.finalize(self, llama.llama_model_free, pointer)


class Sitting(Protocol):
    """What a seat knows of a cache."""

    length: int
    snapshot: bytes | None
    seat: Seat | None


@dataclass(frozen=True)
class Room:
    """How contexts of a decoder are made."""

    model: LlamaModel
    """The weights."""
    layout: StateLayout
    """How keys and values are stored; without flash attention where they are turned."""
    threads: int
    """Compute threads."""


class Seat:
    """Callers hold the decoder's lock."""

    def __init__(self, room: Room) -> None:
        """EngineError when llama.cpp cannot make the context."""
        shape, layout = room.layout.shape, room.layout
        flash = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED if layout.turned else llama.LLAMA_FLASH_ATTN_TYPE_ENABLED
        options = llama.llama_context_default_params()
        options.n_ctx, options.n_seq_max, options.flash_attn_type = shape.max_positions, 1, flash
        options.n_batch = options.n_ubatch = max(shape.max_positions, LEAST_BATCH)
        options.n_threads = options.n_threads_batch = room.threads
        options.type_k = options.type_v = layout.ggml_type
        self._context = llama.llama_init_from_model(room.model.pointer, options)
        if not self._context:
            raise EngineError("llama.cpp cannot make a context for the decoder; is there memory for it?")
        # What the call is given keeps the weights until the context is freed.
        weakref.finalize(self, _free, self._context, room.model)
        self._memory = llama.llama_get_memory(self._context)
        self._vocabulary = shape.vocabulary
        # What llama.cpp reads: rows that are copied here, and a mark for each of them. Pointers made anew for each
        # step would take it 1 % longer.
        self._rows = np.empty((shape.max_positions, shape.width), np.float32)
        self._wanted = (ctypes.c_int8 * shape.max_positions)(*[1] * shape.max_positions)
        self._batch = llama.llama_batch(embd=self._rows.ctypes.data_as(ctypes.POINTER(ctypes.c_float)))
        self._holder: weakref.ref[Sitting] | None = None
        self.used = 0
        """When it was used last, by the decoder's count."""

    @property
    def holder(self) -> Sitting | None:
        """The cache whose keys and values are here; None also when nobody has it any more."""
        return self._holder() if self._holder is not None else None

    def take(self, cache: Sitting) -> None:
        """Change places: the holder leaves with a snapshot, and `cache` comes with its own."""
        if (leaving := self.holder) is not None:
            self.snapshot(leaving)
            leaving.seat = None
        self._holder = None
        llama.llama_memory_clear(self._memory, False)
        if cache.snapshot is not None:
            state = (ctypes.c_uint8 * len(cache.snapshot)).from_buffer_copy(cache.snapshot)
            if llama.llama_state_seq_set_data(self._context, state, len(state), 0) != len(state):
                raise EngineError(f"llama.cpp {llama.__version__} did not take the keys and values of a cache")
        cache.seat, self._holder = self, weakref.ref(cache)

    def snapshot(self, cache: Sitting) -> None:
        """Give the holder its keys and values, unless it has them as they are."""
        if cache.snapshot is not None or not cache.length:
            return
        size = llama.llama_state_seq_get_size(self._context, 0)
        state = (ctypes.c_uint8 * size)()
        if llama.llama_state_seq_get_data(self._context, state, size, 0) != size:
            raise EngineError("llama.cpp did not give out the keys and values of a cache")
        cache.snapshot = bytes(state)

    def keep(self, length: int) -> None:
        """Forget every position from `length` on."""
        llama.llama_memory_seq_rm(self._memory, 0, length, -1)

    def run(self, rows: Float32, every: bool) -> Float32:
        """Append rows (T, width); the logits (1, vocabulary) of the last, or (T, vocabulary) of all.

        Positions and sequence are left out of the batch: llama.cpp counts on from what the context holds.
        """
        self._rows[: len(rows)] = rows
        self._batch.n_tokens, self._batch.logits = len(rows), self._wanted if every else None
        if code := llama.llama_decode(self._context, self._batch):
            raise EngineError(f"llama.cpp failed in the decoder with code {code}")
        count = len(rows) if every else 1
        # A copy: the next run writes its logits over these.
        logits = ctypes.string_at(llama.llama_get_logits(self._context), 4 * count * self._vocabulary)
        return np.frombuffer(logits, np.float32).reshape(count, self._vocabulary)


def _free(context: llama.llama_context_p, model: LlamaModel) -> None:
    llama.llama_free(context)
