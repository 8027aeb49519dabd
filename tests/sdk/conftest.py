from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
import soundfile
from fakes import noise, write_fake

import alm
from alm.commands import main
from alm.engines import ENGINES
from alm.models import Clap, Mellow

if TYPE_CHECKING:
    from alm_export.pipeline import Exported


class Result(NamedTuple):
    """How a command ended: exit status, stdout, stderr."""

    status: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `alm` in this process."""

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["alm", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Result(int(left.value.code or 0), out, err)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six recordings, one of them broken, and a file that is none."""
    from tiny_mellow import RATE, noise

    made = tmp_path / "sounds"
    (made / "deep").mkdir(parents=True)
    for index in range(5):
        soundfile.write(made / ("deep" if index % 2 else "") / f"{index}.wav", noise(RATE, index)[0], RATE)
    (made / "broken.flac").write_bytes(b"fLaC and no more")
    (made / "notes.txt").write_text("nothing to hear")
    return made


@pytest.fixture(scope="module")
def clap(tiny_space: Callable[..., Exported]) -> Iterator[Clap]:
    """The tiny CLAP, float32."""
    with alm.load(tiny_space("clap").path, Clap, threads=1) as model:
        yield model


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
