"""Rows of a GGUF's token embedding, against the format's own library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alm.engines.gguf import read_gguf
from alm.engines.gguf_table import TokenTable
from alm.errors import EngineError

gguf = pytest.importorskip("gguf", reason="llama.cpp is an extra; make test-engines installs it")

WIDTH, VOCABULARY = 64, 50
IDS = np.array([49, 0, 7, 7])


def table_of(data: bytes) -> TokenTable:
    return TokenTable(memoryview(data), read_gguf(memoryview(data), "decoder.gguf"))


def write(path: Path, kind) -> tuple[bytes, np.ndarray]:
    """A GGUF with one table behind another tensor; the values that its rows stand for."""
    values = np.random.default_rng(0).normal(0, 0.02, (VOCABULARY, WIDTH)).astype(np.float32)
    stored = gguf.quants.quantize(values, kind)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("output_norm.weight", np.ones(3, np.float32))
    writer.add_tensor("token_embd.weight", stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes(), gguf.quants.dequantize(stored, kind)


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0"])
def test_rows_are_those_of_the_file(tmp_path: Path, kind: str) -> None:
    data, values = write(tmp_path / "t.gguf", gguf.GGMLQuantizationType[kind])
    table = table_of(data)
    found = table(IDS)
    assert (found.dtype, found.shape) == (np.float32, (4, 64))
    np.testing.assert_array_equal(found, values[IDS])
    assert table(IDS[:0]).shape == (0, 64)
    for wrong in (-1, 50):
        with pytest.raises(EngineError, match="the vocabulary has 50"):
            table(np.array([3, wrong]))


def test_a_table_of_another_type_is_refused(tmp_path: Path) -> None:
    data, _ = write(tmp_path / "t.gguf", gguf.GGMLQuantizationType.Q4_0)
    with pytest.raises(EngineError, match="has ggml's type 2, this engine reads F32, F16 and Q8_0"):
        table_of(data)
