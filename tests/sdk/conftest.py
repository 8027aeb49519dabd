from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import noise, write_fake

import alm
from alm.engines import ENGINES
from alm.models.mellow import Mellow


@pytest.fixture
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "fake", "fakes")


@pytest.fixture
def package(tmp_path: Path, fake_engine: None) -> Path:
    return write_fake(tmp_path / "fake.alm")


@pytest.fixture
def model(package: Path) -> Iterator[Mellow]:
    with alm.load(package) as loaded:
        yield loaded


@pytest.fixture
def clip(model: Mellow) -> alm.Clip:
    return model.listen(noise(1))
