"""The version matrix: what a load makes of it, and that the project's files state the same."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from fakes import write_fake

import alm
from alm.engines import ENGINES, EXTRAS, load_engine
from alm.engines.versions import LIBRARIES
from alm.package import Component

ROOT = Path(__file__).parents[2]
PINNED = [(name, library) for name in ENGINES for library in LIBRARIES[name]]


def requirements(engine: str) -> dict[str, str]:
    """What pip is asked for to run an engine: distribution to version range."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = EXTRAS.get(engine, "").partition("[")[2].rstrip("]")
    lines = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return dict(re.fullmatch(r"([\w-]+)(.*)", line.replace(" ", "")).groups() for line in lines)


@pytest.mark.parametrize(("engine", "library"), PINNED, ids=[library.name for _, library in PINNED])
def test_the_project_states_the_same_versions(engine: str, library) -> None:
    assert requirements(engine)[library.name] == f">={library.oldest},<{library.below}"
    pins = re.findall(rf"^{re.escape(library.name)}==([^\s;]+)", constraints(), re.MULTILINE)
    assert {pin.partition("+")[0] for pin in pins} == {library.tested}
    assert library.takes(library.tested)


def constraints() -> str:
    return (ROOT / "constraints.txt").read_text().replace("_", "-")


@pytest.mark.parametrize(
    ("version", "taken"),
    [
        ("1.27", True), ("1.27.0", True), ("1.32.0+cpu", True), ("1.99.9", True), ("1.27.0rc1", True),
        ("1.26.9", False), ("1.9", False), ("2", False), ("2.0.0", False), ("10.0", False), ("unknown", False),
    ],
)  # fmt: skip
def test_versions_are_compared_as_numbers(version: str, taken: bool) -> None:
    (library,) = LIBRARIES["onnxruntime"]
    assert library.takes(version) is taken


@pytest.mark.parametrize("found", ["1.26.0", "2.0.0"])
def test_a_version_outside_the_matrix_is_refused_before_it_is_loaded(
    found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: found)
    monkeypatch.setitem(ENGINES, "onnxruntime", "a.module.that.must.not.be.imported")
    parts = {
        name: Component("onnxruntime", f"{name}.fake", (), "fp32") for name in ("audio_encoder", "token_embedding")
    }
    package = write_fake(
        tmp_path / "p.alm", components=parts | {"decoder": Component("onnxruntime", "decoder.fake", (), "fp32")}
    )
    expected = rf"takes onnxruntime 1\.27 to below 2, found {re.escape(found)}; .*pip install 'onnxruntime==1\.32\.0'"
    with pytest.raises(alm.EngineError, match=expected):
        alm.load(package)


def test_a_library_that_is_not_there_is_told_by_its_import(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    monkeypatch.setitem(ENGINES, "llama.cpp", "a.module.that.is.not.there")
    with pytest.raises(alm.DependencyError, match=r"alm-edge\[gguf\]"):
        load_engine("llama.cpp")


def test_the_table_in_the_documents_is_this_one() -> None:
    text = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\S+) \| (\S+) \| (\d\S+) \| (\d.*?) \|$", text, re.MULTILINE)
    assert rows == [
        (engine, library.name, library.tested, library.range) for engine in LIBRARIES for library in LIBRARIES[engine]
    ]
