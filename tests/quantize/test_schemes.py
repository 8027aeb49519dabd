"""The arithmetic of every scheme, on matrices nobody would wish for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from alm_quantize.schemes import Blocks, quantize_blocks, quantize_rows

patient = settings(max_examples=60)

# Weights whose products with a scale neither vanish nor overflow in float32.
numbers = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False).filter(
    lambda x: x == 0 or abs(x) > 2.0**-100
)
matrices = arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 140)), elements=numbers)
BLOCK_SCHEMES = [(8, 32), (4, 32), (4, 64)]


def unpack(blocks: Blocks, bits: int, columns: int) -> np.ndarray:
    """What an engine multiplies with, computed in float64."""
    codes = blocks.packed
    if bits == 4:
        codes = np.stack((codes & 15, codes >> 4), -1).reshape(*codes.shape[:2], -1)
    values = (codes.astype(np.float64) - (1 << (bits - 1))) * blocks.scales.astype(np.float64)[:, :, None]
    return values.reshape(len(values), -1)[:, :columns]


@pytest.mark.parametrize(("bits", "block"), BLOCK_SCHEMES)
@patient
@given(weight=matrices)
def test_blocks_are_at_most_one_step_off(bits: int, block: int, weight: np.ndarray) -> None:
    blocks = quantize_blocks(weight, bits, block)
    count = -(-weight.shape[1] // block)
    assert blocks.packed.shape == (len(weight), count, block * bits // 8)
    assert (blocks.packed.dtype, blocks.scales.dtype) == (np.uint8, np.float32)
    assert blocks.scales.shape == (len(weight), count)
    assert np.isfinite(blocks.scales).all()
    off = np.abs(unpack(blocks, bits, weight.shape[1]) - weight)
    step = np.abs(blocks.scales).repeat(block, 1)[:, : weight.shape[1]]
    # Half a step; a whole one at the end that the codes reach one short of: 7 (or 127) steps against 8 (128).
    assert (off <= step * 1.0001).all()
    inside = np.abs(weight) < step * ((1 << (bits - 1)) - 1)
    assert (off[inside] <= step[inside] * 0.5001).all()


@pytest.mark.parametrize(("bits", "block"), BLOCK_SCHEMES)
@patient
@given(weight=matrices)
def test_the_largest_weight_of_a_block_and_its_zeros_are_exact(bits: int, block: int, weight: np.ndarray) -> None:
    values = unpack(quantize_blocks(weight, bits, block), bits, weight.shape[1])
    np.testing.assert_array_equal(values[weight == 0], 0)
    for start in range(0, weight.shape[1], block):
        part, found = weight[:, start : start + block], values[:, start : start + block]
        place = np.abs(part).argmax(1)[:, None]
        extreme = np.take_along_axis(part, place, 1)
        np.testing.assert_allclose(np.take_along_axis(found, place, 1), extreme, rtol=1e-6)


@patient
@given(weight=matrices)
def test_padding_holds_zeros(weight: np.ndarray) -> None:
    for bits, block in BLOCK_SCHEMES:
        whole = -(-weight.shape[1] // block) * block
        assert not unpack(quantize_blocks(weight, bits, block), bits, whole)[:, weight.shape[1] :].any()


@pytest.mark.parametrize("signed", [True, False])
@patient
@given(weight=matrices)
def test_rows_are_at_most_half_a_step_off(signed: bool, weight: np.ndarray) -> None:
    rows = quantize_rows(weight, signed)
    assert rows.values.shape == weight.T.shape
    assert rows.values.flags.c_contiguous
    assert rows.values.dtype == (np.int8 if signed else np.uint8)
    assert (rows.scales.dtype, rows.scales.shape) == (np.float32, (len(weight),))
    codes = rows.values.T.astype(np.float64) - (0 if signed else 128)
    assert np.abs(codes).max() <= 127
    off = np.abs(codes * rows.scales[:, None] - weight)
    assert (off <= rows.scales[:, None] * 0.5001).all()
    # The largest weight of a row is the last code, so no code is wasted.
    assert (np.abs(codes).max(1)[np.abs(weight).max(1) > 0] == 127).all()


@pytest.mark.parametrize("value", [np.float32(1e-45), np.float32(1e-38), np.float32(3e38)])
def test_tiny_and_huge_weights_stay_finite(value: np.float32) -> None:
    weight = np.full((2, 40), value, np.float32)
    weight[1] = -weight[1]
    for bits, block in BLOCK_SCHEMES:
        found = unpack(quantize_blocks(weight, bits, block), bits, 40)
        assert np.isfinite(found).all()
        assert np.abs(found - weight).max() <= max(value * 0.01, 1e-44)
    for signed in (True, False):
        rows = quantize_rows(weight, signed)
        codes = rows.values.T.astype(np.float64) - (0 if signed else 128)
        assert np.abs(codes * rows.scales[:, None] - weight).max() <= max(value * 0.01, 1e-44)


def test_two_weights_share_a_byte_the_first_in_the_low_half() -> None:
    weight = np.zeros((1, 32), np.float32)
    weight[0, :4] = [-8, 7, 1, -2]
    blocks = quantize_blocks(weight, 4, 32)
    assert blocks.scales.tolist() == [[1.0]]
    assert blocks.packed[0, 0, :3].tolist() == [0 | 15 << 4, 9 | 6 << 4, 8 | 8 << 4]
