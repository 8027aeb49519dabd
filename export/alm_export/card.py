"""The model card inside a package: what it is, what it may be used for, how much quantization cost."""

from __future__ import annotations

from alm.package import Manifest

QUALITY_COLUMNS = ("", "share", "95 % interval", "n")

PURPOSE = {
    "reference": "Small reference weights, trained by this project's own recipe on openly licensed recordings.",
    "random": "Random weights in the official shapes, for measuring speed and memory. Its answers mean nothing.",
    "v0": "The official Mellow checkpoint.",
    "v0_s": "The official Mellow checkpoint trained on more audio.",
    "path": "Weights given by a path.",
}


def model_card(manifest: Manifest) -> str:
    """Markdown with the front matter that model hubs read."""
    model, weights, frontend = manifest.model, manifest.weights, manifest.frontend
    seconds = frontend.samples / frontend.sample_rate
    parts = "\n".join(f"| `{name}` | {c.scheme} | {c.engine} |" for name, c in manifest.distinct_components)
    return f"""---
license: {weights.licence}
library_name: alm-edge
pipeline_tag: audio-text-to-text
---

# {model.name} for {manifest.target}, {manifest.scheme}

{PURPOSE[weights.source]} Answers questions about one recording or about two.

* Parameters: {model.parameters:,}
* Listens to clips of {seconds:g} s at {frontend.sample_rate} Hz; longer recordings are answered window by window.
* Weights: {weights.source}, sha256 `{weights.sha256}`
* Licence of the weights: {weights.licence}
* {weights.attribution}

| component | scheme | engine |
|---|---|---|
{parts}

## Quality after quantization

{quality_table(manifest)}

Check this file on the device with `alm verify`, and ask it with `alm ask PACKAGE clip.wav "what is the sound?"`.
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
    scores = {
        f"next-token decisions equal to float32{where}": quality["whole"]["agreement"]
        for where, quality in measured.items()
    }
    scores |= {f"right answers{where or ', this package'}": q["whole"]["accuracy"] for where, q in measured.items()}
    scores["right answers, PyTorch float32"] = manifest.quality["whole"]["accuracy_fp32"]
    return [
        (name, f"{s['share']:.1%}", f"{s['low']:.1%} to {s['high']:.1%}", str(s["n"])) for name, s in scores.items()
    ]
