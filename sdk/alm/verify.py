"""The golden self-test of a package: which stage, if any, computes something else on this machine.

`golden.npz` holds sound and what every stage made of it when the package was exported:

    audio         (N, samples)              float32, one clip (both slots) or two
    prompt_ids    (prompt_tokens,)          int64, the padded question
    log_mel       (N, frames, mels)         float32, dB
    latent        (N, D)                    float32, the clip vector
    audio_tokens  (N, audio_tokens, width)  float32
    logits        (vocabulary,)             float32, after the whole prefix
    tokens        (T,)                      int64, greedy, T at least 1; the stop token does not end them

A stage that another engine of the package computes differently has that engine's own array, `llama.cpp/logits`.

The stages run one after the other on this machine's own results, so the first that differs is the culprit.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alm.engines.base import Array, Float32, KVCache
from alm.errors import PackageError, ParityError
from alm.loading import load
from alm.package import GOLDEN, Manifest, Package

if TYPE_CHECKING:
    from alm.models.mellow import Mellow

ENCODER_STAGES = ("log_mel", "latent", "audio_tokens")
STAGES = (*ENCODER_STAGES, "logits", "tokens")
ANY = range(1, 2**31)


@dataclass(frozen=True)
class StageResult:
    """One stage of the self-test."""

    stage: str
    """log_mel, latent, audio_tokens, logits or tokens."""
    difference: float
    """Largest absolute difference; for tokens how many ids differ; infinity for NaN or another shape."""
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


def verify_model(model: Mellow) -> Verification:
    """Run the self-test of a loaded model. PackageError when the self-test itself is not usable."""
    golden = read_golden(model.package.read(GOLDEN), model.info)
    tolerances = {**model.info.golden.tolerances, "tokens": 0.0}
    missing = [stage for stage in STAGES if stage not in tolerances]
    if missing:
        raise PackageError(f"the manifest has no golden tolerance for: {', '.join(missing)}; export again")
    computed = _compute(model, golden)
    stages = tuple(_compare(stage, found, golden[stage], tolerances[stage]) for stage, found in computed)
    return Verification(model.info.engine, stages)


def read_golden(data: bytes, manifest: Manifest) -> dict[str, Array]:
    """The arrays of golden.npz for the manifest's engine, checked for presence, kind and shape; else PackageError."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            own = {name.rpartition("/")[2]: name for name in file.files if name.startswith(f"{manifest.engine}/")}
            names = {name: name for name in file.files} | own
            arrays = {name: np.asarray(file[place]) for name, place in names.items()}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise PackageError(f"the entry {GOLDEN} cannot be read ({error}); export again") from error
    room = manifest.generation.max_positions - manifest.prompt.prefix_tokens
    expected: dict[str, tuple[str, tuple[range, ...]]] = {
        "audio": ("f", (range(1, 3), _only(manifest.frontend.samples))),
        "prompt_ids": ("i", (_only(manifest.prompt.prompt_tokens),)),
        "log_mel": ("f", (ANY, ANY, ANY)),
        "latent": ("f", (ANY, ANY)),
        "audio_tokens": ("f", (ANY, ANY, ANY)),
        "logits": ("f", (ANY,)),
        "tokens": ("i", (range(1, room + 1),)),
    }
    for name, (kind, axes) in expected.items():
        if name not in arrays:
            raise PackageError(f"the entry {GOLDEN} lacks the array {name!r}; export the package again")
        array = arrays[name]
        fits = array.ndim == len(axes) and all(n in axis for n, axis in zip(array.shape, axes, strict=True))
        if array.dtype.kind != kind or not fits:
            raise PackageError(
                f"{GOLDEN}: {name} is {array.dtype} of shape {array.shape}, which does not fit the manifest; "
                "export the package again"
            )
    return arrays


def _only(size: int) -> range:
    return range(size, size + 1)


def _compute(model: Mellow, golden: dict[str, Array]) -> Iterator[tuple[str, Array]]:
    heard = [model.encode(samples, ENCODER_STAGES) for samples in golden["audio"].astype(np.float32)]
    for stage in ENCODER_STAGES:
        yield stage, np.stack([outputs[stage] for outputs in heard])
    tokens = [outputs["audio_tokens"] for outputs in heard]
    reader = model.reader
    cache = reader.run_prefix((tokens[0], tokens[-1]))
    logits = cache.append(reader.decoder.embed(golden["prompt_ids"].astype(np.int64)))
    yield "logits", logits
    yield "tokens", _greedy_tokens(model, cache, logits, len(golden["tokens"]))


def _greedy_tokens(model: Mellow, cache: KVCache, logits: Float32, count: int) -> Array:
    tokens = [int(np.argmax(logits))]
    while len(tokens) < count:
        last = model.reader.decoder.embed(np.array(tokens[-1:], dtype=np.int64))
        tokens.append(int(np.argmax(cache.append(last))))
    return np.array(tokens, dtype=np.int64)


def _compare(stage: str, found: Array, expected: Array, tolerance: float) -> StageResult:
    if found.shape != expected.shape:
        detail = f"shape {found.shape} instead of {expected.shape}"
        return StageResult(stage, float("inf"), tolerance, detail)
    apart = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    apart = np.where(np.isfinite(apart), apart, np.inf)
    # The first token that differs changes all that follow; elsewhere the largest difference tells most.
    worst = np.argmax(apart > 0) if stage == "tokens" else np.argmax(apart)
    place = np.unravel_index(int(worst), apart.shape)
    difference = float(np.count_nonzero(apart) if stage == "tokens" else apart.max())
    detail = ""
    if difference > tolerance:
        at = ", ".join(str(int(index)) for index in place)
        detail = f"{found[place]} instead of {expected[place]} at [{at}]"
    return StageResult(stage, difference, tolerance, detail)
