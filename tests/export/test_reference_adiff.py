"""`alm-export adiff` with nothing said about weights, then `alm compare`: the way from a clone to a difference."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from typer.testing import CliRunner

import alm
from alm.commands import app
from alm.models import Adiff
from alm.verify import verify
from alm_train.difference.wording import OFFICIAL, TASKS, is_right

pytestmark = pytest.mark.usefixtures("one_thread")
CLIPS = Path(str(files("alm_quantize"))) / "clips"
PAIRS = (("rooster", "rain"), ("siren", "dog"), ("crying_baby", "sea_waves"))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    program = "from alm_export.commands import main; main()"
    words = [sys.executable, "-c", program, "adiff", "--target", "arm64", "--int8"]
    subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder / "adiff-arm64-int8.alm"


@pytest.fixture(scope="module")
def model(package: Path) -> Adiff:
    with alm.load(package, Adiff) as loaded:
        yield loaded


def clip(label: str) -> Path:
    return CLIPS / f"{label}.ogg"


def test_it_verifies_within_the_budget_of_the_gate(package: Path, model: Adiff) -> None:
    assert verify(package).ok
    quality = model.info.quality["whole"]["agreement"]
    assert quality["n"] > 200 and quality["share"] >= 0.95
    assert (model.info.weights.source, model.info.weights.licence) == ("reference", "CC-BY-SA-4.0")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("pair", PAIRS)
def test_bundled_recordings_are_named_in_their_slots(model: Adiff, pair: tuple[str, str], task: str) -> None:
    answer = model.compare(*map(clip, pair), OFFICIAL[task])
    assert is_right(task, *pair, answer.text), answer.text
    assert answer.finish_reason == "stop"


def test_the_command_compares_and_nearby_wordings_are_understood(package: Path) -> None:
    def told(prompt: str, *more: str) -> str:
        words = ["compare", str(package), str(clip("rain")), str(clip("rooster")), prompt, *more]
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        assert result.exit_code == 0
        return result.stdout.strip()

    assert is_right("words", "rain", "rooster", told(OFFICIAL["words"]))
    assert json.loads(told(OFFICIAL["words"], "--json"))["text"].strip() == told(OFFICIAL["words"])
    assert is_right("words", "rain", "rooster", told("What is the difference between these two clips?"))
    assert is_right("sentence", "rain", "rooster", told("Compare both recordings in one sentence."))
    assert is_right("detail", "rain", "rooster", told("describe how the two sounds differ, in detail"))
    assert is_right("second", "rain", "rooster", told("What can be heard in the second clip?"))
