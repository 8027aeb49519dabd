"""A small ADIFF trained behind a tiny Mellow's encoder: stopped in every stage, continued, scored, written."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from corpora import write_corpora
from dying import Killed, Silent
from safetensors.torch import load_file
from tokenizers import Tokenizer
from typer.testing import CliRunner

from alm_train.checkpoints.weights import load_weights
from alm_train.commands import app
from alm_train.difference.character import COURSES, PITCHES, Character
from alm_train.difference.initial import initialise
from alm_train.difference.learning import Ears, Explainer, Lesson, answers_of, draw, explain
from alm_train.difference.pipeline import run_difference
from alm_train.difference.recipe import DifferenceRecipe, read_difference_recipe
from alm_train.difference.wording import OFFICIAL, TASKS, Heard
from alm_train.models.adiff import Adiff
from alm_train.models.decoding import greedy
from alm_train.models.mellow import Mellow

TINY = """
name: tiny
seed: 1
threads: 1
checkpoint_seconds: 3600
mellow: MELLOW
data: {corpora: [esc50, fsdd], per_source: 2, synthetic: 2, speeds: [1.0, 1.1], views: 2}
augmentation:
  {mixup: 0.0, background: 0.3, background_db: [-30, -10], gain_db: 10, equaliser_db: 6, lowpass: 0.1,
   time_masks: 1, time_width: 10, mel_masks: 1, mel_width: 3}
explainer:
  {vocabulary: 700, embedding: 24, width: 48, layers: 1, heads: 2, max_positions: 160, dropout: 0.0, slot_tokens: 30,
   mapper_layers: 1, mapper_heads: 2, cross_layers: 1, cross_heads: 2}
writing: &stage
  {steps: 12, batch: 8, learning_rate: 3.0e-3, warmup_steps: 2, weight_decay: 0.0, average: 0.5, gradient_clip: 1,
   validate_steps: 6}
grounding: *stage
joining: *stage
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpora(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def file(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that names the tiny Mellow."""
    recipe = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    recipe.write_text(TINY.replace("MELLOW", str(tiny_weights)))
    return recipe


@pytest.fixture(scope="module")
def recipe(file: Path) -> DifferenceRecipe:
    return read_difference_recipe(file)


@pytest.fixture(scope="module")
def finished(recipe: DifferenceRecipe, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("finished")
    run_difference(recipe, data, output, Silent())
    return output


def test_a_run_stopped_in_every_stage_ends_with_the_same_weights(
    recipe: DifferenceRecipe, data: Path, finished: Path, tmp_path: Path
) -> None:
    always = recipe.model_copy(update={"checkpoint_seconds": 1e-9})
    for place in (("writing", 3), ("grounding", 2), ("joining", 5)):
        with pytest.raises(Killed):
            run_difference(always, data, tmp_path, Silent(die_at=place))
    run_difference(always, data, tmp_path, Silent())
    whole, resumed = (load_file(folder / "weights/model.safetensors") for folder in (finished, tmp_path))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(tensor, resumed[key]) for key, tensor in whole.items())


def test_the_encoder_is_the_mellows_and_the_language_model_waits_while_the_mappers_are_grounded(
    recipe: DifferenceRecipe, finished: Path
) -> None:
    mellow, adiff = load_weights(recipe.mellow).model, load_weights(str(finished / "weights"), "adiff").model
    assert isinstance(mellow, Mellow) and isinstance(adiff, Adiff)
    own = mellow.audio_encoder.base.htsat.state_dict()
    found = adiff.audio_encoder.base.htsat.state_dict()
    assert all(torch.equal(tensor, found[key]) for key, tensor in own.items())
    written, grounded = (
        torch.load(finished / f"{stage}.pt", weights_only=True)["average"] for stage in ("writing", "grounding")
    )
    changed = {key for key, tensor in written.items() if not torch.equal(tensor, grounded[key])}
    assert changed and not any(".gpt." in key for key in changed)
    assert any("audio_project2" in key for key in changed) and any("text_project" in key for key in changed)


def test_the_release_says_what_it_was_made_from(finished: Path) -> None:
    folder = finished / "weights"
    with (folder / "CREDITS.csv").open(encoding="utf-8", newline="") as opened:
        credits = list(csv.DictReader(opened))
    assert {row["licence"] for row in credits} == {"CC0", "CC-BY", "CC-BY-SA"}
    assert not any(row["source"] == "fsdd:theo" for row in credits)
    stages = [json.loads(line)["stage"] for line in (folder / "training.jsonl").read_text().splitlines()]
    assert list(dict.fromkeys(stages)) == ["writing", "grounding", "joining"]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "| esc50 | CC-BY |" in card and OFFICIAL["detail"] in card


def test_scores_cover_every_task_and_both_wordings(finished: Path) -> None:
    scores = json.loads((finished / "weights/evaluation.json").read_text())
    asked = [(score["task"], score["wording"]) for score in scores["tasks"]]
    assert asked == [(task, "official") for task in TASKS] + [(t, "unseen") for t in ("words", "sentence", "detail")]
    for score in scores["tasks"]:
        assert score["model"]["total"] == score["svm"]["total"] == 4
        # Two kinds of sound are held out.
        assert score["chance"] == (0.5 if score["task"] in ("first", "second") else 0.25)
    assert scores["mellow"]["total"] == 4


def test_the_command_prints_the_scores_of_a_finished_run(file: Path, data: Path, finished: Path) -> None:
    result = CliRunner().invoke(app, ["difference", str(file), "--data", str(data), "-o", str(finished), "--json"])
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["tasks"]) == 9


@pytest.fixture(scope="module")
def module(recipe: DifferenceRecipe, finished: Path) -> Explainer:
    """The model of the run before it has learned."""
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_file(str(finished / "tokenizer.json"))
    adiff = Adiff(recipe.adiff(load_weights(recipe.mellow).model.config.encoder, tokenizer))
    initialise(adiff)
    return Explainer(adiff, tokenizer).eval()


@pytest.fixture(scope="module")
def ears(module: Explainer) -> Ears:
    clips = tuple(
        Heard(label, Character(place, -place, False, PITCHES[place], COURSES[place]))
        for place, label in enumerate(("dog", "rain", "siren"))
    )
    return Ears(torch.randn(2, 3, module.adiff.config.encoder.final_width).half(), clips)


def test_the_words_for_both_clips_and_the_prompt_stand_in_their_slots(module: Explainer, ears: Ears) -> None:
    lesson = Lesson(np.zeros((1, 2), np.int64), np.array([[0, 2]]), ("words",), ("What differs?",))
    config, table = module.adiff.config, module.adiff.caption_decoder.gpt.transformer.wte.weight
    ids = [int((table - row).square().sum(1).argmin()) for row in module.written(ears, lesson)[0]]
    places = config.slot_tokens
    assert ids[places] == config.separator_id
    slots = ids[:places], ids[places + 1 : 2 * places + 1], ids[2 * places + 1 :]
    first, second, asked = (module.tokenizer.decode(slot, skip_special_tokens=False) for slot in slots)
    assert first.startswith(" a dog barking low stays even a dog") and second.startswith(" a siren wailing high comes")
    assert asked.startswith("what differs? <|endoftext|>!!!")


@torch.inference_mode()
def test_the_loss_is_that_of_the_answers_and_their_end(module: Explainer, ears: Ears) -> None:
    lesson = draw(ears, 5, (1, 2))
    prefix, answers = module.prefix(ears, lesson), answers_of(ears, lesson)
    gpt, told = module.adiff.caption_decoder.gpt, []
    for row, text in zip(prefix, answers, strict=True):
        ids = torch.tensor([*module.tokenizer.encode(text).ids, module.adiff.config.stop_id])
        for place, token in enumerate(ids):
            said = torch.cat((row[None], gpt.embed(ids[None, :place])), 1)
            told.append(gpt(said)[0, -1].log_softmax(-1)[token])
    assert module.loss(prefix, answers).item() == pytest.approx(-torch.stack(told).mean().item(), abs=1e-4)


@torch.inference_mode()
def test_a_batch_is_explained_as_each_pair_alone(
    module: Explainer, ears: Ears, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fourth token of the first answer is made the stop token, so that one answer ends before the others."""
    lesson, gpt = draw(ears, 3, (3, 4)), module.adiff.caption_decoder.gpt
    prefix = module.prefix(ears, lesson)
    stop = greedy(gpt, prefix[:1], module.adiff.config.stop_id, 4)[-1]
    monkeypatch.setattr(module.adiff, "config", replace(module.adiff.config, stop_id=stop))
    room = module.adiff.config.decoder.max_positions - module.adiff.config.prefix_tokens
    alone = [greedy(gpt, row[None], stop, room) for row in prefix]
    assert len({len(ids) for ids in alone}) > 1
    expected = [module.tokenizer.decode([i for i in ids if i != stop]).strip() for ids in alone]
    assert explain(module, ears, lesson, batch=2) == expected
