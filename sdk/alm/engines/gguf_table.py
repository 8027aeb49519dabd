"""Rows of the token embedding in a GGUF entry, read where they lie in the mapped package.

llama.cpp holds the same table for its head, but gives out no rows of it. A row is looked up in the file instead,
so that the table is in the package once and in memory once: only the pages of looked-up rows are ever read.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from alm.engines.base import Array, Float32, Int64, check_ids
from alm.engines.gguf import Gguf
from alm.errors import EngineError

TENSOR = "token_embd.weight"
BLOCK = 32
"""Weights that share a scale in Q8_0."""
Q8_0 = np.dtype([("scale", "<f2"), ("codes", "i1", BLOCK)])
TYPES: dict[int, np.dtype[Any]] = {
    0: np.dtype("<f4"),
    1: np.dtype("<f2"),
    8: Q8_0,
}
"""What the exporter stores the table as, by ggml's number of the type."""


class TokenTable:
    """The embedding of each token, computed exactly as llama.cpp does. Safe to use from several threads."""

    def __init__(self, data: memoryview, gguf: Gguf) -> None:
        """EngineError when the table is of a type that is not read here. `data` is the checked entry of `gguf`."""
        table = gguf.tensors[TENSOR]
        if table.kind not in TYPES:
            raise EngineError(
                f"the token embedding in {gguf.name!r} has ggml's type {table.kind}, this engine reads F32, F16 and "
                f"Q8_0 ({', '.join(map(str, TYPES))}); export the package again"
            )
        stored, (width, vocabulary) = TYPES[table.kind], table.shape
        columns = width // BLOCK if stored == Q8_0 else width
        rows = np.frombuffer(data[table.offset : table.offset + table.size], stored)
        self._rows: Array = rows.reshape(vocabulary, columns)
        self._width = width

    def __call__(self, ids: Int64) -> Float32:
        """(T,) ids to (T, width); EngineError for an id outside the vocabulary."""
        check_ids(ids, len(self._rows))
        rows = self._rows.take(ids, axis=0)
        if rows.dtype == Q8_0:
            rows = rows["codes"] * rows["scale"].astype(np.float32)[..., np.newaxis]
        return np.ascontiguousarray(rows, np.float32).reshape(len(ids), self._width)
