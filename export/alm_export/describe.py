"""What the manifest says about an export."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from alm.package import (
    DecoderShape,
    Frontend,
    GenerationDefaults,
    GoldenInfo,
    Manifest,
    ModelInfo,
    PromptLayout,
    WeightsInfo,
)
from alm_export.components import Components
from alm_train.checkpoints.weights import Weights
from alm_train.models.mellow import MellowConfig

LIBRARIES = ("alm-edge", "torch", "onnx", "onnxruntime", "numpy")
"""Whose versions a package records."""


def describe(
    weights: Weights, target: str, scheme: str, components: Components, tolerances: Mapping[str, float]
) -> Manifest:
    """The manifest of a package made from `weights`, its quality still unmeasured."""
    config = weights.model.config
    frontend, decoder, positions = config.encoder.frontend, config.decoder, components.positions
    return Manifest(
        model=ModelInfo("mellow", weights.name, sum(p.numel() for p in weights.model.parameters())),
        weights=WeightsInfo(weights.source, weights.sha256, weights.licence, weights.attribution),
        target=target,
        scheme=scheme,
        frontend=Frontend(
            sample_rate=frontend.sample_rate,
            samples=frontend.samples,
            n_fft=frontend.n_fft,
            hop=frontend.hop,
            mels=frontend.mels,
            fmin=frontend.fmin,
            fmax=frontend.fmax,
        ),
        prompt=prompt_layout(config),
        generation=GenerationDefaults(
            stop_id=config.stop_id, max_tokens=positions - config.prefix_tokens, max_positions=positions
        ),
        decoder=DecoderShape(
            width=decoder.width,
            vocabulary=decoder.vocabulary,
            layers=decoder.layers,
            kv_heads=decoder.kv_heads,
            head_dim=decoder.head_dim,
            max_positions=positions,
        ),
        components=dict(components.components),
        capabilities=("ask", "compare", "choose"),
        golden=GoldenInfo(dict(tolerances)),
        quality={"not_measured": "Not measured yet."},
        provenance=_provenance(),
    )


def prompt_layout(config: MellowConfig) -> PromptLayout:
    """How the model lays out its prefix. Mellow was trained on lower-case prompts."""
    return PromptLayout(
        audio_tokens=config.audio_tokens,
        separator_id=config.separator_id,
        prompt_tokens=config.prompt_tokens,
        pad_id=config.pad_id,
        lowercase=True,
    )


def _provenance() -> dict[str, Any]:
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": platform.machine(),
        "versions": {library: version(library) for library in LIBRARIES},
    }
