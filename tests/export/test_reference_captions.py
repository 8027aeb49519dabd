"""The default path of a user: `alm-export clapcap`, then captions of recordings that the weights never heard."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
from typer.testing import CliRunner

import alm
from alm.commands import app as commands
from alm.package import Package
from alm_export.commands import app

pytestmark = pytest.mark.usefixtures("one_thread")
CLIPS = Path(str(files("alm_quantize"))) / "clips"
SAID = {"rooster": "a rooster is crowing", "dog": "a dog is barking", "crying_baby": "a baby is crying"}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "clapcap.alm"
    result = CliRunner().invoke(app, ["clapcap", "--target", "arm64", "--int8", "--output", str(path)])
    assert result.exit_code == 0, result.output
    return path


@pytest.mark.parametrize("name", SAID)
def test_the_command_says_what_sounds(package: Path, name: str) -> None:
    result = CliRunner().invoke(commands, ["caption", str(package), str(CLIPS / f"{name}.ogg")])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == SAID[name]


def test_the_package_passes_its_self_test_and_says_whose_weights_it_holds(package: Path) -> None:
    result = CliRunner().invoke(commands, ["verify", str(package)])
    assert result.exit_code == 0, result.output
    with Package.open(package) as opened:
        assert opened.manifest.weights.source == "reference"
        assert opened.manifest.weights.licence == "CC-BY-SA-4.0"
        assert opened.manifest.quality is not None
    assert package.stat().st_size < 12e6


def test_a_silent_second_is_called_silent(package: Path) -> None:
    with alm.load(package, alm.models.ClapCap) as model:
        assert "silence" in model.caption(([0.0] * 160000, 32000)).text
