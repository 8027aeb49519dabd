"""A whole training run on a few synthetic clips: stopped, continued, scored, written, and loaded again."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from corpora import TINY_RECIPE, write_corpora
from dying import Killed, Silent
from safetensors.torch import load_file
from typer.testing import CliRunner

from alm_train.answering.pipeline import run_mellow
from alm_train.answering.recipe import MellowRecipe, read_mellow_recipe
from alm_train.checkpoints.weights import load_weights
from alm_train.commands import app, main
from alm_train.data.questions import KINDS
from alm_train.data.recordings import DataError


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> MellowRecipe:
    file = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    file.write_text(TINY_RECIPE)
    return read_mellow_recipe(file)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpora(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def finished(recipe: MellowRecipe, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("finished")
    run_mellow(recipe, data, output, Silent())
    return output


def test_a_run_stopped_in_every_stage_ends_with_the_same_weights(
    recipe: MellowRecipe, data: Path, finished: Path, tmp_path: Path
) -> None:
    always = recipe.model_copy(update={"checkpoint_seconds": 1e-9})
    for place in (("teacher", 3), ("encoder", 2), ("decoder", 3)):
        with pytest.raises(Killed):
            run_mellow(always, data, tmp_path, Silent(die_at=place))
    run_mellow(always, data, tmp_path, Silent())
    whole, resumed = (load_file(folder / "weights/model.safetensors") for folder in (finished, tmp_path))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(tensor, resumed[key]) for key, tensor in whole.items())


def test_the_release_says_what_it_was_made_from(finished: Path) -> None:
    folder = finished / "weights"
    with (folder / "CREDITS.csv").open(encoding="utf-8", newline="") as file:
        credits = list(csv.DictReader(file))
    assert credits and {row["licence"] for row in credits} == {"CC0", "CC-BY", "CC-BY-SA"}
    assert all(row["author"] for row in credits)
    assert "freesound.org/s/dog0/" in credits[0]["source"]
    assert not any(row["source"] == "fsdd:theo" for row in credits)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "CC-BY-SA-4.0" in card and "| esc50 | CC-BY |" in card
    stages = [json.loads(line)["stage"] for line in (folder / "training.jsonl").read_text().splitlines()]
    assert list(dict.fromkeys(stages)) == ["teacher", "encoder", "decoder"]
    weights = load_weights(str(folder))
    assert weights.licence == "CC-BY-SA-4.0"


def test_scores_cover_every_kind_and_baseline(finished: Path) -> None:
    scores = json.loads((finished / "weights/evaluation.json").read_text())["esc50"]
    assert {s["answerer"] for s in scores} == {"model", "majority", "svm"}
    assert {s["kind"] for s in scores} == set(KINDS)
    for score in scores:
        assert 0 <= score["low"] <= score["accuracy"] <= score["high"] <= 1
        assert score["clips"] == 4 and score["questions"] >= 4
    assert (finished / "weights/model.safetensors").stat().st_size < 1_000_000


def test_another_recipe_does_not_continue_a_run(recipe: MellowRecipe, data: Path, finished: Path) -> None:
    with pytest.raises(DataError, match="another recipe"):
        run_mellow(recipe.model_copy(update={"seed": 2}), data, finished, Silent())


def test_an_output_that_is_a_file(recipe: MellowRecipe, data: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("something else")
    with pytest.raises(DataError, match=r"taken cannot be a folder: File exists; choose another --output"):
        run_mellow(recipe, data, tmp_path / "taken", Silent())
    assert (tmp_path / "taken").read_text() == "something else"


def test_the_command_prints_the_scores_of_a_finished_run(recipe: MellowRecipe, data: Path, finished: Path) -> None:
    file = finished / "tiny.yaml"
    file.write_text(TINY_RECIPE)
    result = CliRunner().invoke(app, ["mellow", str(file), "--data", str(data), "--output", str(finished), "--json"])
    assert result.exit_code == 0, result.output
    assert "esc50" in json.loads(result.stdout)


def test_failures_end_in_one_line_and_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(TINY_RECIPE)
    (tmp_path / "empty").mkdir()
    arguments = [
        "alm-train",
        "mellow",
        str(recipe),
        "--data",
        str(tmp_path / "empty"),
        "--output",
        str(tmp_path / "run"),
    ]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr().err
    assert ended.value.code == 1
    assert "no manifest at" in shown and "--data" in shown and "Traceback" not in shown
