"""Audio tokens kept as runs: any array comes back to the last bit, and repetition costs nothing."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from alm.heard.audio_tokens import AudioTokens

values = st.sampled_from([0.0, -0.0, 1.0, float("nan"), float("inf")]) | st.floats(width=32)
tables = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=values)


@given(table=tables, data=st.data())
def test_every_bit_comes_back(table: np.ndarray, data: st.DataObject) -> None:
    repeats = data.draw(st.lists(st.integers(1, 5), min_size=len(table), max_size=len(table)))
    tokens = np.repeat(table, repeats, axis=0)
    kept = AudioTokens.of(tokens)
    assert kept.expand().tobytes() == tokens.tobytes()
    assert kept.expand().shape == tokens.shape
    assert len(kept.rows) <= len(table)


def test_only_neighbours_are_joined() -> None:
    a, b = np.eye(2, 8, dtype=np.float32)
    kept = AudioTokens.of(np.stack([a, a, a, b, b, a]))
    assert kept.repeats.tolist() == [3, 2, 1]
    assert kept.rows.tolist() == [a.tolist(), b.tolist(), a.tolist()]
    assert kept.nbytes == 3 * 8 * 4 + 3 * 8
    assert kept.rows.base is None


def test_tokens_that_all_differ_stay_as_they_are() -> None:
    tokens = np.arange(12, dtype=np.float32).reshape(6, 2)
    assert AudioTokens.of(tokens).repeats.tolist() == [1] * 6
