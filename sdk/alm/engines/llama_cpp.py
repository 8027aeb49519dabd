"""llama.cpp: the decoder from a GGUF entry, mapped from the package file in place.

It runs decoders only; audio encoder and token embedding of such a package run on another engine. One context serves
all caches. It has a few sequences, its seats; a cache without a seat is a snapshot of its keys and values, and
changes places with the one that was used least lately. Importing this module imports llama-cpp-python.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from dataclasses import dataclass

import llama_cpp as llama
import numpy as np

from alm.engines import load_engine
from alm.engines.base import Array, Embedding, Float32, Graph, Int64
from alm.errors import EngineError
from alm.package import Package
from alm.package.manifest import DecoderShape

SEATS = 4
"""Sequences of the context. Keys and values of one take 16 MB at full size as float16."""
LEAST_BATCH = 32
"""Positions that a batch has room for, at least."""
FLOAT_SCHEME = "fp32"
"""Decoders of this scheme keep keys and values in float32 too, others in float16."""

_SILENT = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda level, text, data: None)
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.fopen.restype = ctypes.c_void_p
_LIBC.fopen.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
_LIBC.fseek.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_int]
_LIBC.fclose.argtypes = [ctypes.c_void_p]


def engine(threads: int | None = None) -> LlamaCpp:
    """The engine with `threads` compute threads (default: one per core this process may use)."""
    if threads is not None and threads < 1:
        raise EngineError(f"threads is {threads}, expected at least 1")
    # Its running commentary goes to stderr otherwise.
    llama.llama_log_set(_SILENT, None)
    llama.llama_backend_init()
    return LlamaCpp(threads or len(os.sched_getaffinity(0)))


class LlamaCpp:
    """Loads decoders in GGUF."""

    name = "llama.cpp"

    def __init__(self, threads: int) -> None:
        self.threads = threads
        """Compute threads of the decoder."""

    def load_graph(self, package: Package, component: str) -> Graph:
        """Always EngineError: llama.cpp has no graphs of its own making."""
        raise EngineError(f"llama.cpp cannot run the component {component}, only decoders; export the package again")

    def load_embedding(self, package: Package) -> Embedding:
        """Always EngineError, as for `load_graph`."""
        raise EngineError("llama.cpp cannot run the component token_embedding alone; export the package again")

    def load_decoder(self, package: Package) -> LlamaDecoder:
        """Load the decoder, and the token embedding on the engine it was exported for."""
        components = package.manifest.components
        embedding = load_engine(components["token_embedding"].engine, 1).load_embedding(package)
        model = _load_model(package, components["decoder"].graph)
        precise = components["decoder"].scheme == FLOAT_SCHEME
        return LlamaDecoder(embedding, model, package.manifest.decoder, self.threads, precise)


@dataclass(frozen=True)
class _Native:
    """A model and what it was read from."""

    model: llama.llama_model_p
    file: int
    """The C file that the weights are mapped from."""

    def free(self) -> None:
        llama.llama_model_free(self.model)
        _LIBC.fclose(self.file)


def _load_model(package: Package, entry: str) -> _Native:
    file = _LIBC.fopen(os.fsencode(package.path), b"rb")
    if not file:
        raise EngineError(f"{package.path} cannot be opened again: {os.strerror(ctypes.get_errno())}")
    # The file was opened by name: it is the one that was checked only if the name still means it.
    if not package.in_place():
        _LIBC.fclose(file)
        raise EngineError(f"{package.path} was replaced or moved while it was being loaded; load it again")
    _LIBC.fseek(file, package.offset(entry), os.SEEK_SET)
    model = llama.llama_model_load_from_file_ptr(file, llama.llama_model_default_params())
    # It knows where the file ends but not where the entry does, so a cut one would end in what lies behind.
    if not model or llama.llama_model_size(model) > package.manifest.entries[entry].size:
        if model:
            llama.llama_model_free(model)
        _LIBC.fclose(file)
        raise EngineError(f"llama.cpp {llama.__version__} cannot load {entry!r}; export the package again")
    return _Native(model, file)


class LlamaDecoder:
    """A decoder whose caches share one context. Safe to use from several threads: runs go one at a time."""

    def __init__(self, embedding: Embedding, native: _Native, shape: DecoderShape, threads: int, precise: bool) -> None:
        self._embedding = embedding
        self.shape = shape
        self.value_bytes = 4 if precise else 2
        """Bytes of one number in a key or value."""
        found = (
            llama.llama_model_n_embd(native.model),
            llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(native.model)),
            llama.llama_model_n_layer(native.model),
        )
        if found != (shape.width, shape.vocabulary, shape.layers):
            native.free()
            raise EngineError(
                f"the GGUF has width, vocabulary and layers {found}, the manifest says "
                f"{(shape.width, shape.vocabulary, shape.layers)}; export the package again"
            )
        options = llama.llama_context_default_params()
        options.n_ctx, options.n_seq_max, options.kv_unified = SEATS * shape.max_positions, SEATS, True
        options.n_batch = options.n_ubatch = max(shape.max_positions, LEAST_BATCH)
        options.n_threads = options.n_threads_batch = threads
        if precise:
            options.type_k = options.type_v = llama.GGML_TYPE_F32
            # Its flash attention multiplies in float16: 2e-3 in the logits, which a float32 package must not lose.
            options.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = llama.llama_init_from_model(native.model, options)
        if not self.context:
            native.free()
            raise EngineError("llama.cpp cannot make a context for the decoder; is there memory for it?")
        self.memory = llama.llama_get_memory(self.context)
        self.lock = threading.Lock()
        self._seats: list[weakref.ref[LlamaKVCache] | None] = [None] * SEATS
        self._used = [0] * SEATS
        self._clock = 0
        weakref.finalize(self, _free, self.context, native)

    def embed(self, ids: Int64) -> Float32:
        """(T,) ids to (T, width); EngineError for an id outside the vocabulary."""
        return self._embedding(ids)

    def new_cache(self) -> LlamaKVCache:
        """An empty cache, which takes a seat when it is first used."""
        return LlamaKVCache(self)

    def cache_from(self, state: Array) -> LlamaKVCache:
        """Always EngineError: what llama.cpp makes of a sequence cannot be checked before it reads it."""
        raise EngineError("llama.cpp does not read saved keys and values; save the session with prefixes=False")

    def seat(self, cache: LlamaKVCache) -> int:
        """The sequence of `cache`, brought back from its snapshot if need be. The caller holds the lock."""
        self._clock += 1
        if cache.seat is None:
            place = self._free_seat()
            llama.llama_memory_seq_rm(self.memory, place, -1, -1)
            if cache.snapshot is not None:
                buffer = (ctypes.c_uint8 * len(cache.snapshot)).from_buffer_copy(cache.snapshot)
                if not llama.llama_state_seq_set_data(self.context, buffer, len(cache.snapshot), place):
                    raise EngineError("llama.cpp did not take back the keys and values of a cache")
            cache.seat, self._seats[place] = place, weakref.ref(cache)
        self._used[cache.seat] = self._clock
        return cache.seat

    def copy(self, parent: LlamaKVCache, child: LlamaKVCache) -> None:
        """Give `child` the positions of `parent`. The caller holds the lock."""
        if parent.length:
            child.snapshot = self.snapshot(parent)
        child.length = parent.length

    def snapshot(self, cache: LlamaKVCache) -> bytes:
        """Keys and values of a cache, made once until it changes. The caller holds the lock."""
        if cache.snapshot is None:
            seat = self.seat(cache)
            size = llama.llama_state_seq_get_size(self.context, seat)
            buffer = (ctypes.c_uint8 * size)()
            if llama.llama_state_seq_get_data(self.context, buffer, size, seat) != size:
                raise EngineError("llama.cpp did not give out the keys and values of a cache")
            cache.snapshot = bytes(buffer)
        return cache.snapshot

    def _free_seat(self) -> int:
        """A seat that nobody has, or that of the cache used least lately."""
        for place, holder in enumerate(self._seats):
            if holder is None or holder() is None:
                return place
        place = min(range(SEATS), key=self._used.__getitem__)
        holder = self._seats[place]
        leaving = holder() if holder is not None else None
        if leaving is not None:
            self.snapshot(leaving)
            leaving.seat = None
        return place


class LlamaKVCache:
    """One sequence."""

    def __init__(self, decoder: LlamaDecoder) -> None:
        self._decoder = decoder
        self.length = 0
        """Positions held."""
        self.seat: int | None = None
        """Its sequence in the context. Changed by the decoder only."""
        self.snapshot: bytes | None = None
        """Its keys and values as of now, where they were asked for. Changed by the decoder only."""

    @property
    def capacity(self) -> int:
        """Positions that fit."""
        return self._decoder.shape.max_positions

    @property
    def nbytes(self) -> int:
        """Bytes of its keys and values."""
        shape = self._decoder.shape
        return 2 * self._decoder.value_bytes * shape.layers * shape.kv_heads * shape.head_dim * self.length

    def append(self, embeddings: Float32) -> Float32:
        """Run the decoder on (T, width); the logits (vocabulary,) of the last position."""
        logits: Float32 = self._run(embeddings, every=False)[0]
        return logits

    def append_all(self, embeddings: Float32) -> Float32:
        """Run the decoder on (T, width); the logits (T, vocabulary) of every position."""
        return self._run(embeddings, every=True)

    def rewind(self, length: int) -> None:
        """Forget every position from `length` on."""
        if not 0 <= length <= self.length:
            raise EngineError(f"cannot rewind to {length}: the cache holds {self.length} positions")
        if length == self.length:
            return
        with self._decoder.lock:
            seat = self._decoder.seat(self)
            llama.llama_memory_seq_rm(self._decoder.memory, seat, length, -1)
            self.length, self.snapshot = length, None

    def fork(self) -> LlamaKVCache:
        """An independent cache that holds the same positions."""
        fork = LlamaKVCache(self._decoder)
        with self._decoder.lock:
            self._decoder.copy(self, fork)
        return fork

    def state(self) -> Float32:
        """Always EngineError: nothing could check such a state before llama.cpp reads it again."""
        raise EngineError("llama.cpp does not give out keys and values to keep; save the session with prefixes=False")

    def _run(self, embeddings: Float32, every: bool) -> Float32:
        count, decoder = len(embeddings), self._decoder
        if not self.length < self.length + count <= self.capacity:
            raise EngineError(f"cannot append {count} positions to {self.length}: the cache holds {self.capacity}")
        rows = np.ascontiguousarray(embeddings, np.float32)
        if rows.shape != (count, decoder.shape.width):
            raise EngineError(f"found embeddings of {rows.shape[1:]} in the decoder, expected {decoder.shape.width}")
        with decoder.lock:
            batch = llama.llama_batch_init(count, rows.shape[1], 1)
            try:
                self._fill(batch, rows, decoder.seat(self), every)
                # Whatever comes of it, the snapshot is of the past.
                self.snapshot = None
                if code := llama.llama_decode(decoder.context, batch):
                    raise EngineError(f"llama.cpp failed in the decoder with code {code}")
            finally:
                llama.llama_batch_free(batch)
            self.length += count
            wanted = range(count) if every else (count - 1,)
            return np.stack([self._logits(row) for row in wanted])

    def _logits(self, row: int) -> Float32:
        """Logits (vocabulary,) of one row of the last batch, valid until the next one."""
        pointer = llama.llama_get_logits_ith(self._decoder.context, row)
        return np.ctypeslib.as_array(pointer, (self._decoder.shape.vocabulary,))

    def _fill(self, batch: llama.llama_batch, rows: Float32, seat: int, every: bool) -> None:
        count = len(rows)
        ctypes.memmove(batch.embd, rows.ctypes.data, rows.nbytes)
        batch.n_tokens = count
        for row in range(count):
            batch.pos[row] = self.length + row
            batch.n_seq_id[row], batch.seq_id[row][0] = 1, seat
            batch.logits[row] = every or row == count - 1


def _free(context: llama.llama_context_p, native: _Native) -> None:
    llama.llama_free(context)
    native.free()
