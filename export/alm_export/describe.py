"""What the manifest says about an export."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from alm.engines.versions import LIBRARIES as ENGINE_LIBRARIES
from alm.package import Frontend, GoldenInfo, Manifest, ModelInfo, WeightsInfo
from alm_export.components import Components
from alm_train.checkpoints.weights import Weights
from alm_train.models.frontend import FrontendConfig

LIBRARIES = ("alm-edge", "torch", "onnx", "onnxruntime", "numpy")
"""Whose versions a package records, beside those of the engines' libraries."""


def describe(
    family: str,
    weights: Weights,
    target: str,
    scheme: str,
    frontend: FrontendConfig,
    components: Components,
    tolerances: Mapping[str, float],
    capabilities: tuple[str, ...],
    **sections: Any,
) -> Manifest:
    """The manifest of a package made from `weights`, its quality still unmeasured. `sections` are the family's own."""
    # The filter bank may be built for another rate than the sound has; then its bands lie that much higher.
    stretch = frontend.sample_rate / (frontend.bank_rate or frontend.sample_rate)
    return Manifest(
        model=ModelInfo(family, weights.name, sum(p.numel() for p in weights.model.parameters())),
        weights=WeightsInfo(weights.source, weights.sha256, weights.licence, weights.attribution),
        target=target,
        scheme=scheme,
        frontend=Frontend(
            sample_rate=frontend.sample_rate,
            samples=frontend.samples,
            n_fft=frontend.n_fft,
            hop=frontend.hop,
            mels=frontend.mels,
            fmin=frontend.fmin * stretch,
            fmax=frontend.fmax * stretch,
        ),
        components=dict(components.components),
        capabilities=capabilities,
        golden=GoldenInfo(dict(tolerances)),
        quality={"not_measured": "Not measured yet."},
        provenance=_provenance(components),
        **sections,
    )


def _provenance(components: Components) -> dict[str, Any]:
    engines = sorted({component.engine for component in components.components.values()})
    used = [library.name for engine in engines for library in ENGINE_LIBRARIES[engine]]
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": platform.machine(),
        "versions": {library: version(library) for library in dict.fromkeys((*LIBRARIES, *used))},
    }
