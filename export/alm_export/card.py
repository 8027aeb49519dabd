"""The model card inside a package: what it is, what it may be used for, how much quantization cost."""

from __future__ import annotations

from alm.package import Manifest

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
    parts = "\n".join(f"| `{name}` | {c.scheme} | {c.engine} |" for name, c in manifest.components.items())
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
    quality = manifest.quality
    if "not_measured" in quality:
        return str(quality["not_measured"])
    agreement, accuracy, before = (quality["whole"][k] for k in ("agreement", "accuracy", "accuracy_fp32"))
    rows = [
        ("next-token decisions equal to float32", agreement),
        ("right answers, this package", accuracy),
        ("right answers, PyTorch float32", before),
    ]
    body = "\n".join(
        f"| {name} | {s['share']:.1%} | {s['low']:.1%} to {s['high']:.1%} | {s['n']} |" for name, s in rows
    )
    return f"| | share | 95 % interval | n |\n|---|---|---|---|\n{body}\n\nMeasured on {quality['clips']} clips."
