"""The second stage of a captioner: clips heard by a frozen tower, what is kept out of it, and what it adds."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from clap_corpora import write_clap_corpora
from dying import Killed, Silent
from safetensors.torch import load_file
from test_captioner_run import TINY, tiny_clap
from tokenizers import Tokenizer

from alm_train.captioner.evaluate import OWN_WORDS, judge, names
from alm_train.captioner.pipeline import run_captioner
from alm_train.captioner.recipe import CaptionerRecipe, read_captioner_recipe
from alm_train.captioner.texts import caption_of, text_pairs
from alm_train.captioner.writing import Writer, caption_ids
from alm_train.checkpoints.weights import load_weights
from alm_train.data.sounds import SOUNDS
from alm_train.data.synthetic import synthesise
from alm_train.models.two_towers import unit

GROUNDING = """
grounding:
  data:
    {corpora: [esc50, fsdd], per_source: 2, synthetic: 2, synthetic_held_out: 1, speeds: [1.0, 1.1],
     held_out_per_group: 1, views: 3, per_class: 4,
     augmentation: {mixup: 0.0, background: 0.3, background_db: [-30, -20], gain_db: 3, equaliser_db: 2, lowpass: 0.1,
                    time_masks: 1, time_width: 6, mel_masks: 1, mel_width: 4}}
  noise: 0.005
  share: 0.75
  writing: {steps: 60, batch: 24, learning_rate: 1.0e-2, warmup_steps: 2, weight_decay: 0.0, average: 0.8,
            gradient_clip: 1, validate_steps: 30}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clap_corpora(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def recipe(data: Path, tmp_path_factory: pytest.TempPathFactory) -> CaptionerRecipe:
    folder = tmp_path_factory.mktemp("clap")
    file = folder / "tiny.yaml"
    text = TINY.replace("CLAP", str(tiny_clap(folder / "weights", data))).replace("humorous", "plain")
    file.write_text(text.replace("steps: 60", "steps: 8") + GROUNDING)
    return read_captioner_recipe(file)


@pytest.fixture(scope="module")
def finished(recipe: CaptionerRecipe, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("finished")
    run_captioner(recipe, data, output, Silent())
    return output


@pytest.fixture(scope="module")
def scores(finished: Path) -> dict:
    return json.loads((finished / "weights/evaluation.json").read_text())


def test_it_learns_to_write_what_it_hears(recipe: CaptionerRecipe, data: Path, finished: Path) -> None:
    clap, writer = load_weights(recipe.clap, "clap"), Writer(load_weights(str(finished / "weights"), "clapcap").model)
    tower, tokenizer = clap.model.audio_encoder, Tokenizer.from_str(clap.tokenizer)
    sounds = ("silence", "white_noise", "pure_tone")
    waveforms = torch.from_numpy(np.stack([synthesise(sound, 5, 16000, 32000) for sound in sounds]))
    ids = caption_ids(tokenizer, [caption_of(sound) for sound in sounds], clap.model.config, 24)
    with torch.inference_mode():
        heard = unit(tower(waveforms))
        assert writer.loss(heard, ids) < writer.loss(heard.roll(1, 0), ids) - 0.2


def test_nothing_unfree_held_out_or_kept_out_was_heard(scores: dict, finished: Path) -> None:
    with (finished / "weights/CREDITS.csv").open() as file:
        credits = list(csv.DictReader(file))
    assert {row["label"] for row in credits} == {"dog", "speech"} and scores["unseen"] == ["cat", "rain"]
    assert scores["captions"].keys() == scores["text_only"].keys() == {"seen", "unseen", "fsdd", "synthetic"}
    assert {row["licence"] for row in credits} <= {"CC0", "CC-BY", "CC-BY-SA"}
    assert not [row["file"] for row in credits if row["file"].endswith(("4.flac", "5.flac"))]
    views = load_file(finished / "heard.safetensors")["vectors"]
    assert views.shape[0] == 3 and not torch.equal(views[0], views[1])


def test_the_card_says_what_was_measured(scores: dict, finished: Path) -> None:
    card = (finished / "weights/README.md").read_text()
    named = scores["captions"]["seen"]["named"]
    assert f"| ESC-50, seen classes | {named['total']} | {100 * named['share']:.1f} [" in card
    assert "**Not heard**: " + ", ".join(scores["unseen"]) in card


def test_a_run_stopped_while_grounding_ends_with_the_same_weights(
    recipe: CaptionerRecipe, data: Path, finished: Path, tmp_path: Path
) -> None:
    always = recipe.model_copy(update={"checkpoint_seconds": 1e-9})
    with pytest.raises(Killed):
        run_captioner(always, data, tmp_path, Silent(die_at=("grounding", 10)))
    run_captioner(always, data, tmp_path, Silent())
    whole, resumed = (load_file(folder / "weights/model.safetensors") for folder in (finished, tmp_path))
    assert all(torch.equal(tensor, resumed[key]) for key, tensor in whole.items())


def test_the_towers_stay_as_they_were(recipe: CaptionerRecipe, finished: Path) -> None:
    tower = load_weights(recipe.clap, "clap").model.audio_encoder.state_dict()
    found = load_weights(str(finished / "weights"), "clapcap").model.clap.state_dict()
    assert all(torch.equal(tensor, found[key]) for key, tensor in tower.items())


def test_plain_pairs_write_what_is_said_of_a_sound(data: Path) -> None:
    pairs = text_pairs(data, "plain", "train")
    assert ("this is the sound of pouring water", SOUNDS["pouring_water"].sentence) in pairs
    assert not [written for _, written in pairs if written.endswith(".") or written != written.lower()]
    held_out = text_pairs(data, "plain", "val")
    assert held_out and all(read == written for read, written in held_out)


@pytest.mark.parametrize(
    ("text", "label", "named"),
    [
        ("water drips into a bowl", "water_drops", True),
        ("water drips into a bowl", "pouring_water", False),
        ("Dogs barked", "dog", True),
        ("a rooster is crowing", "crow", False),
        ("there is a crackling fire", "silence", False),
        ("fireworks are exploding", "crackling_fire", False),
        ("a person is coughing", "sneezing", False),
        ("someone sneezes", "sneezing", True),
    ],
)
def test_a_caption_names_a_sound_by_a_word_of_its_own(text: str, label: str, named: bool) -> None:
    assert names(text, label) is named


def test_every_sentence_names_its_own_sound_and_every_sound_has_words() -> None:
    assert all(OWN_WORDS.values())
    for label, sound in SOUNDS.items():
        assert names(sound.sentence, label), label
    assert judge([s.sentence for s in SOUNDS.values()], list(SOUNDS)).named_by_chance.share < 0.1
