"""The decoder on onnxruntime, and its KV caches: memory of ours that the graph reads and writes in place."""

from __future__ import annotations

import math
import mmap

import numpy as np

from alm.engines.base import Array, Float32, Int64, check_append, check_rewind
from alm.engines.onnx_graph import GIVING_BACK, KEEPING, OnnxEmbedding, ort
from alm.engines.onnx_signature import keeps_int8
from alm.errors import EngineError
from alm.memory import give_back
from alm.package.sections import DecoderShape

CHUNK = 130
"""Most positions that run at once. Attention multiplies each position of a run with all others, also those behind it
that do not count: the 389 of a full-size question take 0.9 of the time in three runs, with one thread."""
LONG = 64
"""Positions from which a run of the decoder gives back what it took: 10 MB for the prefix of the full-size model."""


class OnnxDecoder:
    """SmolLM2-style decoder over caches that it reads and writes in place. Safe to use from several threads."""

    def __init__(self, embedding: OnnxEmbedding, session: ort.InferenceSession, shape: DecoderShape) -> None:
        self._embedding = embedding
        self.session = session
        self.shape = shape
        self.kept = np.dtype(np.int8 if keeps_int8(session) else np.float32)
        """Type of the keys and values."""

    def embed(self, ids: Int64) -> Float32:
        """(T,) ids to (T, width); EngineError for an id outside the vocabulary."""
        return self._embedding(ids)

    def new_cache(self) -> OnnxKVCache:
        """An empty cache, which takes memory only as positions are added.

        The memory is mapped by hand: numpy asks for huge pages, and with those the first position already takes
        all of it (8 MB at full size, 32 in float32).
        """
        shape = self.shape
        layout = (2 * shape.layers, 1, shape.kv_heads, shape.max_positions, shape.head_dim)
        size = self.kept.itemsize * math.prod(layout)
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        return OnnxKVCache(self, np.frombuffer(memory, self.kept).reshape(layout), 0)

    def cache_from(self, state: Array) -> OnnxKVCache:
        """A cache over the positions of a state (2 * layers, kv_heads, positions, head_dim), keys before values."""
        shape = self.shape
        heads = (2 * shape.layers, shape.kv_heads)
        fits = state.ndim == 4 and state.shape[:2] == heads and state.shape[3] == shape.head_dim
        if state.dtype != self.kept or not fits or not 1 <= state.shape[2] <= shape.max_positions:
            raise EngineError(
                f"found keys and values of type {state.dtype} and shape {state.shape}; this decoder takes {self.kept} "
                f"of ({heads[0]}, {heads[1]}, 1 to {shape.max_positions}, {shape.head_dim})"
            )
        if self.kept == np.float32 and not np.isfinite(state).all():
            raise EngineError("the keys and values are not all finite numbers")
        cache = self.new_cache()
        cache._hold(state[:, np.newaxis])
        return cache


class OnnxKVCache:
    """Keys and values in one block of memory that is bound to the graph as past and as present at once."""

    def __init__(self, decoder: OnnxDecoder, buffers: Array, length: int) -> None:
        self._decoder = decoder
        self._buffers = buffers
        self._length = length
        self._binding = decoder.session.io_binding()
        for index, buffer in enumerate(buffers):
            name = f"{('key', 'value')[index % 2]}_{index // 2}"
            value = ort.OrtValue.ortvalue_from_numpy(buffer)
            self._binding.bind_ortvalue_input(f"past_{name}", value)
            self._binding.bind_ortvalue_output(f"present_{name}", value)
        # Bound once: after a step the caches of the processor are full of weights, and every call takes its time.
        self._last_position = self._input("last_position", np.zeros(1, np.int32))
        self._total_length = self._input("total_length", np.zeros((), np.int32))
        self._bind(1, 1)

    def _bind(self, length: int, rows: int) -> None:
        """Make room for a run of `length` positions that gives the logits of `rows` of them."""
        shape = self._decoder.shape
        self._embeddings = self._input("embeddings", np.empty((1, length, shape.width), np.float32))
        self._rows = self._input("rows", np.empty(rows, np.int64))
        self._logits = np.empty((rows, shape.vocabulary), np.float32)
        self._binding.bind_ortvalue_output("logits", ort.OrtValue.ortvalue_from_numpy(self._logits))

    def _input(self, name: str, array: Array) -> Array:
        """`array`, which the decoder reads as `name` whenever it runs."""
        self._binding.bind_cpu_input(name, array)
        return array

    @property
    def length(self) -> int:
        """Positions held."""
        return self._length

    @property
    def capacity(self) -> int:
        """Positions that fit."""
        return self._decoder.shape.max_positions

    @property
    def nbytes(self) -> int:
        """Bytes of the memory pages in which the positions lie; each head of each layer begins some of its own."""
        shape = self._decoder.shape
        pages = -(-self._buffers.itemsize * self._length * shape.head_dim // mmap.PAGESIZE)
        return 2 * shape.layers * shape.kv_heads * pages * mmap.PAGESIZE

    def append(self, embeddings: Float32) -> Float32:
        """Run the decoder on (T, width); the logits (vocabulary,) of the last position."""
        logits: Float32 = self._extend(embeddings, len(embeddings) - 1)[0]
        return logits

    def append_all(self, embeddings: Float32) -> Float32:
        """Run the decoder on (T, width); the logits (T, vocabulary) of every position."""
        return self._extend(embeddings, 0)

    def _extend(self, embeddings: Float32, first: int) -> Float32:
        """Append, and return the logits from row `first` of `embeddings` on."""
        check_append(embeddings, self._length, self._decoder.shape)
        length = len(embeddings)
        logits = np.empty((length - first, self._decoder.shape.vocabulary), np.float32)
        chunk = math.ceil(length / math.ceil(length / CHUNK))
        try:
            for start in range(0, length, chunk):
                part, known = embeddings[start : start + chunk], max(start - first, 0)
                rows = np.arange(max(first - start, 0), len(part))
                logits[known : known + len(rows)] = self._run(part, self._length + start, rows)
        except Exception as error:
            raise EngineError(f"onnxruntime failed in the decoder: {error}") from error
        finally:
            if length >= LONG:
                give_back()
        self._length += length
        return logits

    def _run(self, embeddings: Float32, start: int, rows: Int64) -> Float32:
        """Run positions from `start` on; the logits of some rows of `embeddings`, until the next run. There may be
        none."""
        length = len(embeddings)
        if (length, len(rows)) != (self._embeddings.shape[1], len(self._rows)):
            self._bind(length, len(rows))
        self._embeddings[0], self._rows[:] = embeddings, rows
        self._last_position[0], self._total_length[()] = start + length - 1, start + length
        self._decoder.session.run_with_iobinding(self._binding, GIVING_BACK if length >= LONG else KEEPING)
        return self._logits

    def rewind(self, length: int) -> None:
        """Forget every position from `length` on; what lies behind is overwritten by the next append."""
        check_rewind(length, self._length)
        self._length = length

    def fork(self) -> OnnxKVCache:
        """An independent copy of the positions held: 4 MB and a millisecond at full size, 12 MB in float32."""
        fork = self._decoder.new_cache()
        fork._hold(self._buffers[:, :, :, : self._length])
        return fork

    def state(self) -> Array:
        """A copy (2 * layers, kv_heads, positions, head_dim) of the positions held, keys before values."""
        return self._buffers[:, 0, :, : self._length].copy()

    def _hold(self, positions: Array) -> None:
        self._length = positions.shape[3]
        self._buffers[:, :, :, : self._length] = positions
