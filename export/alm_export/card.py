"""The model card inside a package: what it is, what it may be used for, how much quantization cost."""

from __future__ import annotations

from alm.package import Manifest
from alm_train.checkpoints.families import FAMILIES

QUALITY_COLUMNS = ("", "share", "95 % interval", "n")
SCORES = {
    "agreement": "next-token decisions equal to float32",
    "accuracy": "right answers",
    "accuracy_fp32": "right answers, PyTorch float32",
    "ranking": "order of two texts by likeness equal to float32",
    "audio_cosine": "median cosine of an audio embedding to float32",
    "text_cosine": "median cosine of a text embedding to float32",
}
"""What a manifest's quality may hold, in words. Scores of PyTorch float32 are the same on every engine."""

PURPOSE = {
    "reference": "Small reference weights, trained by this project's own recipe on openly licensed recordings.",
    "random": "Random weights in the official shapes, for measuring speed and memory. Its answers mean nothing.",
    "path": "Weights given by a path.",
    **{name: words for family in FAMILIES.values() for name, words in family.official.items()},
}
"""What a card says of weights, by the name given to `--weights`."""


def model_card(manifest: Manifest, summary: str, task: str, example: str) -> str:
    """Markdown with the front matter that model hubs read: `summary` says what the model does, `task` is the hubs' word
    for it, `example` a command with PACKAGE in place of the package."""
    model, weights, frontend = manifest.model, manifest.weights, manifest.frontend
    seconds = frontend.samples / frontend.sample_rate
    parts = "\n".join(f"| `{name}` | {c.scheme} | {c.engine} |" for name, c in manifest.distinct_components)
    return f"""---
license: {weights.licence}
library_name: alm-edge
pipeline_tag: {task}
---

# {model.name} for {manifest.target}, {manifest.scheme}

{PURPOSE[weights.source]} {summary}

* Parameters: {model.parameters:,}
* Listens to clips of {seconds:g} s at {frontend.sample_rate} Hz; longer recordings are heard window by window.
* Weights: {weights.source}, sha256 `{weights.sha256}`
* Licence of the weights: {weights.licence}
* {weights.attribution}

| component | scheme | engine |
|---|---|---|
{parts}

## Quality after quantization

{quality_table(manifest)}

Check this file on the device with `alm verify`, and try it with `{example}`.
"""


def quality_table(manifest: Manifest) -> str:
    """The exporter's comparison with PyTorch float32 as Markdown, or why there is none."""
    rows = quality_rows(manifest)
    if not rows:
        return str(manifest.quality["not_measured"])
    body = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    clips = f"Measured on {manifest.quality['clips']} clips that the exporter brings or was given."
    return f"| {' | '.join(QUALITY_COLUMNS)} |\n|---|---|---|---|\n{body}\n\n{clips}"


def quality_rows(manifest: Manifest) -> list[tuple[str, str, str, str]]:
    """One row per score, under QUALITY_COLUMNS; none when quality was not measured."""
    if "whole" not in manifest.quality:
        return []
    measured = {"": manifest.quality} if not manifest.variants else {f" on {manifest.engine}": manifest.quality}
    measured |= {f" on {engine}": scores for engine, scores in manifest.quality.get("variants", {}).items()}
    rows = []
    for key, words in SCORES.items():
        for where, quality in measured.items():
            if key in quality["whole"] and not (key.endswith("_fp32") and quality is not manifest.quality):
                rows.append(_row(words if key.endswith("_fp32") else words + where, quality["whole"][key]))
    return rows


def _row(name: str, score: dict[str, float] | float) -> tuple[str, str, str, str]:
    if isinstance(score, float):
        return name, f"{score:.4f}", "", ""
    return name, f"{score['share']:.1%}", f"{score['low']:.1%} to {score['high']:.1%}", str(score["n"])
