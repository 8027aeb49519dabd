"""A whole CLAP run on a few synthetic clips and captions: stopped, continued, scored, written, and loaded again."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from clap_corpora import TINY_CLAP, write_clap_corpora
from dying import Killed, Silent
from safetensors.torch import load_file
from typer.testing import CliRunner

from alm_train.checkpoints.weights import load_weights
from alm_train.commands import app
from alm_train.contrastive.pipeline import run_clap
from alm_train.contrastive.recipe import ClapRecipe, read_clap_recipe


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> ClapRecipe:
    file = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    file.write_text(TINY_CLAP)
    return read_clap_recipe(file)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clap_corpora(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def finished(recipe: ClapRecipe, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("finished")
    run_clap(recipe, data, output, Silent())
    return output


def test_a_run_stopped_in_every_stage_ends_with_the_same_weights(
    recipe: ClapRecipe, data: Path, finished: Path, tmp_path: Path
) -> None:
    always = recipe.model_copy(update={"checkpoint_seconds": 1e-9})
    log = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    taught = max(line["step"] for line in log if line["stage"] == "teacher")
    for place in (("text", 3), ("teacher", 2), ("teacher", taught), ("audio", 3)):
        with pytest.raises(Killed):
            run_clap(always, data, tmp_path, Silent(die_at=place))
    run_clap(always, data, tmp_path, Silent())
    whole, resumed = (load_file(folder / "weights/model.safetensors") for folder in (finished, tmp_path))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(tensor, resumed[key]) for key, tensor in whole.items())


def test_classes_kept_out_are_in_no_training_clip(finished: Path) -> None:
    scores = json.loads((finished / "weights/evaluation.json").read_text())
    assert (scores["seen"], scores["unseen"]) == (["dog"], ["cat", "rain"])
    with (finished / "weights/CREDITS.csv").open(encoding="utf-8", newline="") as file:
        assert {row["label"] for row in csv.DictReader(file)} == {"dog", "speech"}


def test_scores_cover_what_was_held_out(finished: Path) -> None:
    scores = json.loads((finished / "weights/evaluation.json").read_text())
    totals = {(n["clips"], n["options"]): n["clap"]["total"] for n in scores["naming"]}
    assert totals == {("seen", "seen"): 2, ("all", "all"): 6, ("unseen", "unseen"): 4, ("unseen", "all"): 4}
    assert set(scores["ranking"]) == {"esc50", "fsdd", "synthetic", "codec_mushra", "all"}
    assert scores["ranking"]["codec_mushra"]["all"]["total"] == 1
    assert scores["listening"]["clips"] == 3
    for naming in scores["naming"]:
        for answers in (naming["clap"], naming["svm"]):
            assert 0 <= answers["low"] <= answers["share"] <= answers["high"] <= 1


def test_the_weights_load_and_say_where_they_come_from(finished: Path) -> None:
    weights = load_weights(str(finished / "weights"), "clap")
    assert weights.licence == "CC-BY-SA-4.0" and "NoAudioCaptioning" in weights.attribution
    card = (finished / "weights/README.md").read_text(encoding="utf-8")
    assert "cat, rain" in card and "| 2 unseen | 3 all |" in card


def test_the_command_prints_the_scores_of_a_finished_run(data: Path, finished: Path) -> None:
    file = finished / "tiny.yaml"
    file.write_text(TINY_CLAP)
    result = CliRunner().invoke(app, ["clap", str(file), "--data", str(data), "--output", str(finished), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["unseen"] == ["cat", "rain"]
