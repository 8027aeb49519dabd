"""What a family tests itself with: the arrays of golden.npz, and the stages that it computes from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from alm.engines.base import Array

ANY = range(1, 2**31)
"""Any length."""

Golden = Mapping[str, Array]


def only(size: int) -> range:
    """This length and no other."""
    return range(size, size + 1)


@dataclass(frozen=True)
class GoldenArray:
    """What an array of golden.npz must be before anything is computed from it."""

    kind: Literal["f", "i"]
    """Floats or whole numbers. A stage of whole numbers is compared by how many differ, and none may."""
    axes: tuple[range, ...]
    """Lengths that each axis may have."""


@dataclass(frozen=True)
class SelfTest:
    """The self-test of a loaded model."""

    inputs: Mapping[str, GoldenArray]
    """What goes in."""
    stages: Mapping[str, GoldenArray]
    """What must come out, in the order in which it is computed."""
    compute: Callable[[Golden], Iterator[tuple[str, Array]]]
    """From the arrays to each stage's name and result, every stage from those before it on this machine."""
