"""The self-test of a package: sound, and what each stage must make of it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Golden:
    """The self-test and how exactly it must be met."""

    arrays: Arrays
    """As the family's self-test describes them."""
    tolerances: Mapping[str, float]
    """Largest absolute difference per stage."""

    def to_bytes(self) -> bytes:
        """golden.npz."""
        file = io.BytesIO()
        np.savez_compressed(file, **self.arrays)
        return file.getvalue()


def widened(exact: Mapping[str, float], found: Arrays, reference: Arrays) -> dict[str, float]:
    """Tolerances of a package's self-test, from those of a float32 package by stage.

    Another processor's kernels may differ from this one's by about as much as quantization differs from float32, so
    each stage is allowed twice what the package is from `reference`, and never less than a float32 package.
    """
    return {
        stage: max(tolerance, 2 * float(np.abs(found[stage] - reference[stage]).max()))
        for stage, tolerance in exact.items()
    }


def merged_golden(by_engine: Mapping[str, Golden]) -> Golden:
    """One self-test for several engines: the first one's arrays, and of each other engine what it computes
    differently, as `alm.verify` looks for it."""
    first, *others = by_engine
    arrays = dict(by_engine[first].arrays)
    for engine in others:
        for name, array in by_engine[engine].arrays.items():
            if not np.array_equal(array, by_engine[first].arrays[name]):
                arrays[f"{engine}/{name}"] = array
    return Golden(arrays, by_engine[first].tolerances)
