"""What is measured: the facts of a package, and what its work costs by count."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from alm.package import Manifest, Package
from alm_bench.results.records import BenchError, PackageFacts, Score, Work

ON_DEVICE = ("alm-edge", "numpy", "onnxruntime", "rich", "soundfile", "soxr", "tokenizers", "typer")
"""The device install, without what these need in turn."""
MACHINES = {"x86_64": "x86_64"}
"""Machine that a target's packages are for; every other target is for aarch64."""


def examine(path: Path, machine: str = platform.machine()) -> tuple[PackageFacts, Work | None]:
    """The facts of a package, and its work without the cache.

    PackageError for a file that is none, BenchError for one of another `machine`.
    """
    with Package.open(path) as package:
        manifest = package.manifest
        expected = MACHINES.get(manifest.target, "aarch64")
        if machine != expected:
            raise BenchError(
                f"{path} was exported for {manifest.target} ({expected}), this machine is {machine}: its figures would "
                "be those of neither. Export it for this machine, or name another with --device"
            )
        return _facts(path, manifest), _work(package) if manifest.decoder else None


def about(facts: PackageFacts) -> str:
    """A package in a line."""
    return f"{facts.model}, {facts.weights} weights, {facts.scheme} for {facts.target} on {facts.engine}"


def with_cache(work: Work | None, readings: Sequence[Mapping[str, Any]]) -> Work | None:
    """What every step reads of keys and values besides the weights, as `workloads.cache_bytes` told it."""
    return None if work is None else replace(work, step_bytes=work.step_bytes + readings[0]["cache_bytes"])


def prefix_positions(manifest: Manifest) -> int:
    """Positions before the first generated token; 0 for a package that generates none."""
    if manifest.mapper is not None:
        return manifest.mapper.tokens
    return manifest.prompt.prefix_tokens if manifest.prompt else 0


def installed_bytes() -> int:
    """Size of the device install on disk, without its smaller dependencies."""
    total = 0
    for name in ON_DEVICE:
        files = importlib.metadata.files(name) or []
        total += sum(Path(file.locate()).stat().st_size for file in files if Path(file.locate()).is_file())
    return total


def _facts(path: Path, manifest: Manifest) -> PackageFacts:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return PackageFacts(
        sha256=digest,
        size=path.stat().st_size,
        installed=installed_bytes(),
        family=manifest.model.family,
        model=manifest.model.name,
        parameters=manifest.model.parameters,
        weights=manifest.weights.source,
        target=manifest.target,
        scheme=manifest.scheme,
        engine=manifest.engine,
        schemes={name: component.scheme for name, component in manifest.components.items()},
        quality=_scores(manifest.quality.get("whole", {})),
    )


def _scores(measured: Any) -> dict[str, Score]:
    """The shares among what an exporter measured: any JSON, of which only what looks like a share is taken."""
    wanted = {"share", "low", "high", "n"}
    items = measured.items() if isinstance(measured, dict) else ()
    return {
        name: Score(float(item["share"]), float(item["low"]), float(item["high"]), int(item["n"]))
        for name, item in items
        if isinstance(item, dict)
        and wanted <= item.keys()
        and all(isinstance(item[key], int | float) for key in wanted)
    }


def _work(package: Package) -> Work:
    manifest = package.manifest
    shape, prompt, decoder = manifest.decoder, manifest.prompt, manifest.components["decoder"]
    assert shape is not None
    weights = decoder.weights or (decoder.graph,)
    step_bytes = sum(manifest.entries[name].size for name in weights)
    if not decoder.weights:
        return Work(step_bytes, None)
    scheme = dict.fromkeys(decoder.weights, decoder.scheme)
    head = manifest.components["token_embedding"]
    scheme |= dict.fromkeys(head.weights, head.scheme)
    body = [name for name in decoder.weights if name not in head.weights]
    count = sum(_products(package.tensors(name), scheme[name]) for name in body)
    products = 2.0 * count
    step = products + 2.0 * shape.vocabulary * shape.width
    if prompt is None or manifest.mapper is not None:
        # A mapper makes the prefix, and its products are none of the decoder's.
        return Work(step_bytes, None, step)
    return Work(step_bytes, products * prompt.prompt_tokens, step, products * prompt.prefix_tokens)


def _products(tensors: dict[str, np.ndarray], scheme: str) -> int:
    """Weights that take part in matrix products: of packed 4-bit ones two are in a byte, scales do not count."""
    per_byte = 2 if re.match("int4", scheme) else 1
    return sum(
        tensor.size * (per_byte if tensor.dtype == np.uint8 else 1)
        for name, tensor in tensors.items()
        if tensor.ndim >= 2 and not name.endswith((".scales", ".zero_points"))
    )
