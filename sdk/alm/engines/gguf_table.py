"""Rows of the token embedding in a GGUF entry, read where they lie in the mapped package.

llama.cpp holds the same table for its head, but gives out no rows of it. A row is looked up in the file instead,
so that the table is in the package once and in memory once: only the pages of looked-up rows are ever read.
"""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp as llama
import numpy as np
from llama_cpp._ggml import libggml
from numpy.typing import NDArray

from alm.engines.base import Array, Float32, Int64
from alm.errors import EngineError
from alm.package import Package
from alm.package.manifest import DecoderShape

TENSOR = b"token_embd.weight"
BLOCK = 32
"""Weights that share a scale in Q8_0."""
Q8_0 = np.dtype([("scale", "<f2"), ("codes", "i1", BLOCK)])
TYPES: dict[int, np.dtype[Any]] = {
    llama.GGML_TYPE_F32: np.dtype("<f4"),
    llama.GGML_TYPE_F16: np.dtype("<f2"),
    llama.GGML_TYPE_Q8_0: Q8_0,
}
"""What the exporter stores the table as, by ggml's number of the type."""


class _Parameters(ctypes.Structure):
    _fields_ = [("no_alloc", ctypes.c_bool), ("context", ctypes.c_void_p)]


libggml.gguf_init_from_buffer.restype = ctypes.c_void_p
libggml.gguf_init_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_size_t, _Parameters]
libggml.gguf_free.argtypes = [ctypes.c_void_p]
libggml.gguf_find_tensor.restype = ctypes.c_int64
libggml.gguf_find_tensor.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
libggml.gguf_get_data_offset.restype = ctypes.c_size_t
libggml.gguf_get_data_offset.argtypes = [ctypes.c_void_p]
libggml.gguf_get_tensor_offset.restype = ctypes.c_size_t
libggml.gguf_get_tensor_offset.argtypes = [ctypes.c_void_p, ctypes.c_int64]
libggml.gguf_get_tensor_type.argtypes = [ctypes.c_void_p, ctypes.c_int64]


class TokenTable:
    """The embedding of each token, computed exactly as llama.cpp does. Safe to use from several threads."""

    def __init__(self, package: Package, entry: str, shape: DecoderShape) -> None:
        """EngineError when the entry is no GGUF, or its table has another type or size than a decoder's of `shape`."""
        data = np.frombuffer(package.view(entry), np.uint8)
        kind, offset = _find(data, entry)
        if kind not in TYPES:
            raise EngineError(
                f"the token embedding in {entry!r} has ggml's type {kind}, this engine reads F32, F16 and Q8_0 "
                f"({', '.join(map(str, TYPES))}); export the package again"
            )
        stored = TYPES[kind]
        columns = shape.width // BLOCK if stored == Q8_0 else shape.width
        size = shape.vocabulary * columns * stored.itemsize
        if offset + size > len(data):
            raise EngineError(f"the token embedding in {entry!r} ends behind the entry; export the package again")
        self._rows: Array = data[offset : offset + size].view(stored).reshape(shape.vocabulary, columns)
        self._width = shape.width

    def __call__(self, ids: Int64) -> Float32:
        """(T,) ids to (T, width); EngineError for an id outside the vocabulary."""
        if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < len(self._rows):
            raise EngineError(f"token ids reach {int(ids.max())}; the vocabulary has {len(self._rows)}")
        rows = self._rows[ids]
        if rows.dtype == Q8_0:
            rows = rows["codes"] * rows["scale"].astype(np.float32)[..., np.newaxis]
        return np.ascontiguousarray(rows, np.float32).reshape(len(ids), self._width)


def _find(data: NDArray[np.uint8], entry: str) -> tuple[int, int]:
    """Type and first byte of the table."""
    gguf = libggml.gguf_init_from_buffer(data.ctypes.data, len(data), _Parameters(no_alloc=True, context=None))
    if not gguf:
        raise EngineError(f"{entry!r} is no GGUF that llama.cpp {llama.__version__} reads; export the package again")
    try:
        place = libggml.gguf_find_tensor(gguf, TENSOR)
        if place < 0:
            raise EngineError(f"{entry!r} has no tensor {TENSOR.decode()!r}; export the package again")
        offset = libggml.gguf_get_data_offset(gguf) + libggml.gguf_get_tensor_offset(gguf, place)
        return libggml.gguf_get_tensor_type(gguf, place), offset
    finally:
        libggml.gguf_free(gguf)
