"""The tiny model as float32 packages, one per engine that is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

LIBRARIES = {"onnxruntime": "onnxruntime", "llama.cpp": "llama_cpp"}


@pytest.fixture(scope="session", params=list(LIBRARIES))
def engine_package(
    request: pytest.FixtureRequest, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The tiny model with its decoder on an engine."""
    return export_for(request.param, tiny_weights, tmp_path_factory)


@pytest.fixture(scope="session")
def gguf_package(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with its decoder on llama.cpp."""
    return export_for("llama.cpp", tiny_weights, tmp_path_factory)


def export_for(engine: str, weights: Path, folders: pytest.TempPathFactory) -> Path:
    pytest.importorskip(LIBRARIES[engine], reason=f"{engine} is an extra; make test-engines installs it")
    from tiny_mellow import request as export_request
    from tiny_mellow import single_thread

    from alm_export.pipeline import export

    path = folders.mktemp("engine") / "tiny.alm"
    with single_thread():
        return export(export_request(weights, path, engine=engine)).path
