"""The tiny model as float32 packages, one per engine that is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from alm_export.pipeline import Exported

LIBRARIES = {"onnxruntime": "onnxruntime", "llama.cpp": "llama_cpp", "executorch": "executorch"}


@pytest.fixture(scope="session")
def exports(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """The tiny model for engines, a comma list, exported once."""
    made: dict[str, Exported] = {}

    def exported(engines: str) -> Exported:
        if engines not in made:
            made[engines] = _export_for(engines, tiny_weights, tmp_path_factory)
        return made[engines]

    return exported


@pytest.fixture(scope="session")
def engine_packages(exports: Callable[[str], Exported]) -> Callable[[str], Path]:
    """The tiny model on an engine, exported once."""
    return lambda engine: exports(engine).path


@pytest.fixture(scope="session", params=list(LIBRARIES))
def engine_package(request: pytest.FixtureRequest, engine_packages: Callable[[str], Path]) -> Path:
    """The tiny model on each engine in turn."""
    return engine_packages(request.param)


@pytest.fixture(scope="session")
def gguf_package(engine_packages: Callable[[str], Path]) -> Path:
    """The tiny model with its decoder on llama.cpp."""
    return engine_packages("llama.cpp")


def _export_for(engines: str, weights: Path, folders: pytest.TempPathFactory) -> Exported:
    for engine in engines.split(","):
        pytest.importorskip(LIBRARIES[engine], reason=f"{engine} is an extra; make test-engines installs it")
    from tiny_mellow import request as export_request
    from tiny_mellow import single_thread

    from alm_export import mellow, pipeline
    from alm_quantize.probes import bundled_probes

    path = folders.mktemp("engine") / "tiny.alm"
    with single_thread(), pytest.MonkeyPatch.context() as patch:
        # Quality is not what these tests are about.
        patch.setattr(mellow, "bundled_probes", lambda rate, samples: bundled_probes(rate, samples)[:3])
        return pipeline.export(export_request(weights, path, engine=engines))
