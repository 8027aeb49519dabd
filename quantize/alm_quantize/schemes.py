"""How the weights of one component are stored, and the arithmetic that packs them.

Two layouts, both native to onnxruntime's kernels: blocks of weights along the input axis that share a scale
(4 or 8 bits, activations stay float32 at the interface), and one scale per output row with activations
quantized at run time (8 bits).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scheme:
    """One way to store a matrix."""

    name: str
    """Name in commands and manifests."""
    bits: int
    """Bits per weight; 32 keeps float32."""
    block: int = 0
    """Weights that share a scale; 0 gives one scale per output row and activations in 8 bits."""
    signed: bool = True
    """Whether codes are stored around 0 or around 128; for one scale per row only."""


SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme("fp32", 32),
        Scheme("int8", 8),
        Scheme("uint8", 8, signed=False),
        Scheme("int8-block32", 8, 32),
        Scheme("int4-block32", 4, 32),
        Scheme("int4-block64", 4, 64),
        Scheme("int4-block128", 4, 128),
    )
}


@dataclass(frozen=True)
class Blocks:
    """A matrix in blocks along its input axis."""

    packed: NDArray[np.uint8]
    """(out, blocks, block * bits / 8); two 4-bit weights share a byte, the first in the low half."""
    scales: NDArray[np.float32]
    """(out, blocks)."""


@dataclass(frozen=True)
class Rows:
    """A matrix with one scale per output row."""

    values: NDArray[np.int8] | NDArray[np.uint8]
    """(in, out): transposed, as the kernels want it."""
    scales: NDArray[np.float32]
    """(out,)."""


def quantize_blocks(weight: NDArray[np.float32], bits: int, block: int) -> Blocks:
    """Symmetric round-to-nearest of (out, in) with zero point 2 ** (bits - 1).

    The scale maps the entry of largest magnitude to the most negative code, so that all 2 ** bits codes are in
    use. `in` is padded with zeros to a multiple of `block`.
    """
    middle = 1 << (bits - 1)
    padded = np.pad(weight, ((0, 0), (0, -weight.shape[1] % block)))
    blocks = padded.reshape(len(weight), -1, block)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), -1)
    scales = extreme / -middle
    safe = np.where(scales == 0, 1, scales)
    codes = np.clip(np.rint(blocks / safe) + middle, 0, 2 * middle - 1).astype(np.uint8)
    packed = codes if bits == 8 else codes[..., 0::2] | codes[..., 1::2] << 4
    return Blocks(packed, scales[..., 0].astype(np.float32))


def quantize_rows(weight: NDArray[np.float32], signed: bool = True) -> Rows:
    """Symmetric 8 bits of (out, in), one scale per output row; unsigned codes have zero point 128."""
    scales = np.abs(weight).max(1) / 127
    safe = np.where(scales == 0, 1, scales)
    codes = np.rint(weight / safe[:, None])
    values = codes.astype(np.int8) if signed else (codes + 128).astype(np.uint8)
    return Rows(np.ascontiguousarray(values.T), scales.astype(np.float32))
