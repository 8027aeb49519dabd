"""The golden self-test of a package: which stage, if any, computes something else on this machine.

`golden.npz` holds sound and what every stage made of it when the package was exported. Its arrays are the family's own:
`alm.models.mellow_self_test` lists those of Mellow.

A stage that another engine of the package computes differently has that engine's own array, `llama.cpp/logits`.

The stages run one after the other on this machine's own results, so the first that differs is the culprit.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alm.engines.base import Array
from alm.errors import PackageError, ParityError
from alm.loading import load
from alm.package import GOLDEN, Package
from alm.self_test import GoldenArray

if TYPE_CHECKING:
    from alm.models.base import Model


@dataclass(frozen=True)
class StageResult:
    """One stage of the self-test."""

    stage: str
    """Its name, such as log_mel."""
    difference: float
    """Largest absolute difference; for whole numbers how many differ; infinity for NaN or another shape."""
    tolerance: float
    """Largest difference that passes."""
    detail: str
    """Where a failed stage differs; empty when it passed."""

    @property
    def ok(self) -> bool:
        """Whether the stage passed."""
        return self.difference <= self.tolerance


@dataclass(frozen=True)
class Verification:
    """The whole self-test on one engine."""

    engine: str
    """The engine that ran it."""
    stages: tuple[StageResult, ...]
    """Every stage, in the order in which they run."""

    @property
    def ok(self) -> bool:
        """Whether every stage passed."""
        return all(stage.ok for stage in self.stages)

    @property
    def first_difference(self) -> StageResult | None:
        """The first stage that did not pass."""
        return next((stage for stage in self.stages if not stage.ok), None)

    def check(self) -> None:
        """Raise ParityError naming the first stage that differs."""
        if (bad := self.first_difference) is not None:
            raise ParityError(
                f"on {self.engine}, stage {bad.stage} is the first that differs from the golden self-test: "
                f"{bad.detail} (difference {bad.difference:g}, tolerance {bad.tolerance:g}). The package was made for "
                "another kind of processor, or this engine computes differently; see 'alm doctor'"
            )


def verify(path: str | Path, *, engine: str | None = None, threads: int | None = None) -> Verification:
    """Load a package, with all hashes checked, and run its self-test on one of its engines (default: the first)."""
    with load(path, engine=engine, threads=threads) as model:
        return verify_model(model)


def verify_engines(path: str | Path, *, threads: int | None = None) -> tuple[Verification, ...]:
    """`verify` for every engine that the package was exported for. DependencyError when one is not installed."""
    with Package.open(path) as package:
        engines = package.manifest.engines
    return tuple(verify(path, engine=engine, threads=threads) for engine in engines)


def verify_model(model: Model) -> Verification:
    """Run the self-test of a loaded model. PackageError when the self-test itself is not usable."""
    test, manifest = model.self_test, model.info
    golden = read_golden(model.package.read(GOLDEN), manifest.engine, {**test.inputs, **test.stages})
    exact = {stage: 0.0 for stage, expected in test.stages.items() if expected.kind == "i"}
    tolerances = {**manifest.golden.tolerances, **exact}
    missing = [stage for stage in test.stages if stage not in tolerances]
    if missing:
        raise PackageError(f"the manifest has no golden tolerance for: {', '.join(missing)}; export again")
    stages = tuple(
        _compare(stage, found, golden[stage], tolerances[stage], exact=stage in exact)
        for stage, found in test.compute(golden)
    )
    return Verification(manifest.engine, stages)


def read_golden(data: bytes, engine: str, expected: Mapping[str, GoldenArray]) -> dict[str, Array]:
    """The arrays of golden.npz for an engine, checked for presence, kind and shape; else PackageError."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            own = {name.rpartition("/")[2]: name for name in file.files if name.startswith(f"{engine}/")}
            names = {name: name for name in file.files} | own
            arrays = {name: np.asarray(file[place]) for name, place in names.items()}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise PackageError(f"the entry {GOLDEN} cannot be read ({error}); export again") from error
    for name, wanted in expected.items():
        if name not in arrays:
            raise PackageError(f"the entry {GOLDEN} lacks the array {name!r}; export the package again")
        array, axes = arrays[name], wanted.axes
        fits = array.ndim == len(axes) and all(n in axis for n, axis in zip(array.shape, axes, strict=True))
        if array.dtype.kind != wanted.kind or not fits:
            raise PackageError(
                f"{GOLDEN}: {name} is {array.dtype} of shape {array.shape}, which does not fit the manifest; "
                "export the package again"
            )
    return arrays


def _compare(stage: str, found: Array, expected: Array, tolerance: float, *, exact: bool) -> StageResult:
    if found.shape != expected.shape:
        detail = f"shape {found.shape} instead of {expected.shape}"
        return StageResult(stage, float("inf"), tolerance, detail)
    apart = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    apart = np.where(np.isfinite(apart), apart, np.inf)
    # The first token that differs changes all that follow; elsewhere the largest difference tells most.
    worst = np.argmax(apart > 0) if exact else np.argmax(apart)
    place = np.unravel_index(int(worst), apart.shape)
    difference = float(np.count_nonzero(apart) if exact else apart.max())
    detail = ""
    if difference > tolerance:
        at = ", ".join(str(int(index)) for index in place)
        detail = f"{found[place]} instead of {expected[place]} at [{at}]"
    return StageResult(stage, difference, tolerance, detail)
