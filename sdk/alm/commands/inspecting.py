"""`alm inspect`: what a package holds, where its weights come from, and under which licence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alm.commands.arguments import AsJson, PackagePath
from alm.commands.output import print_json, print_rows

if TYPE_CHECKING:
    from alm.package import Manifest


def inspect(package: PackagePath, json: AsJson = False) -> None:
    """Show a package's model, licence, components and quality.

    Checks every hash first, runs no engine.
    """
    from alm.package import Package

    with Package.open(package) as opened:
        manifest = opened.manifest
    size = package.stat().st_size
    if json:
        import dataclasses

        print_json({"package": str(package), "bytes": size} | dataclasses.asdict(manifest))
        return
    print_rows(_summary(manifest, size))
    print_rows(_components(manifest), header=("component", "engine", "scheme", "MB"))
    if manifest.quality:
        print_rows(_flat(manifest.quality), header=("quality", ""))
    if manifest.provenance:
        print_rows(_flat(manifest.provenance), header=("provenance", ""))


def _summary(manifest: Manifest, size: int) -> list[tuple[str, ...]]:
    model, weights, frontend = manifest.model, manifest.weights, manifest.frontend
    caution = " (for measuring speed and memory only: the answers mean nothing)"
    seconds = frontend.samples / frontend.sample_rate
    return [
        ("model", f"{model.name} ({model.family}), {model.parameters:,} parameters"),
        ("weights", weights.source + (caution if weights.source == "random" else "")),
        ("licence", weights.licence),
        ("attribution", weights.attribution),
        ("checkpoint", f"sha256 {weights.sha256}"),
        ("target", manifest.target),
        ("engines", ", ".join(manifest.engines)),
        ("scheme", manifest.scheme),
        ("size", f"{size / 1e6:.1f} MB"),
        ("can", ", ".join(manifest.capabilities)),
        ("hears", f"windows of {seconds:g} s at {frontend.sample_rate} Hz"),
        *_reads(manifest),
    ]


def _reads(manifest: Manifest) -> list[tuple[str, ...]]:
    if manifest.prompt is not None:
        return [("reads", f"up to {manifest.prompt.prompt_tokens} prompt tokens")]
    space = manifest.embedding
    if space is None:
        return []
    texts = f"texts of up to {space.text.tokens} tokens" if space.text else "no texts: the text encoder was left out"
    pairs = [(f"score {pair.name}", f"{pair.good!r} against {pair.bad!r}") for pair in space.pairs]
    return [("reads", texts), *([("labels", ", ".join(space.labels))] if space.labels else []), *pairs]


def _components(manifest: Manifest) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, component in sorted(manifest.distinct_components, key=lambda pair: pair[0]):
        size = sum(manifest.entries[entry].size for entry in {component.graph, *component.weights})
        rows.append((name, component.engine, component.scheme, f"{size / 1e6:.1f}"))
    return rows


def _flat(values: dict[str, object], prefix: str = "") -> list[tuple[str, ...]]:
    """Nested JSON as rows of dotted names; a share with its interval is one row."""
    rows: list[tuple[str, ...]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if not isinstance(value, dict):
            rows.append((name, str(value)))
        elif value.keys() == {"share", "low", "high", "n"} and all(isinstance(v, int | float) for v in value.values()):
            share = f"{value['share']:.1%} of {value['n']} (95 %: {value['low']:.1%} to {value['high']:.1%})"
            rows.append((name, share))
        else:
            rows.extend(_flat(value, f"{name}."))
    return rows
