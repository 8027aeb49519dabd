"""The ClapCap weights that ship: small, credited, honest about what was kept out, as able as their card says."""

from __future__ import annotations

import csv
import json
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from alm_train.captioner.evaluate import captions_from, judge
from alm_train.captioner.writing import Writer
from alm_train.checkpoints.weights import Weights, load_weights
from alm_train.data.library import Clip
from alm_train.data.recordings import FREE_LICENCES
from alm_train.data.sounds import SYNTHETIC
from alm_train.models.two_towers import unit

WEIGHTS = Path(str(files("alm_train"))) / "weights"
FOLDER = WEIGHTS / "clapcap"
CLIPS = Path(str(files("alm_quantize"))) / "clips"
# Far from every seed that training or its evaluation uses.
SEEDS = (77_000_001, 77_000_002)


@pytest.fixture(scope="module")
def scores() -> dict:
    return json.loads((FOLDER / "evaluation.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def weights() -> Weights:
    return load_weights("reference", "clapcap")


@torch.inference_mode()
def captions(weights: Weights, clips: list[Clip]) -> list[str]:
    model = weights.model
    waveforms = [torch.from_numpy(clip.waveform(model.config.encoder.frontend)[None]) for clip in clips]
    vectors = unit(torch.cat([model.clap(waveform) for waveform in waveforms]))
    return captions_from(Writer(model), Tokenizer.from_str(weights.tokenizer), vectors)


def test_size_licence_and_tower(weights: Weights) -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 25_000_000
    assert weights.licence == "CC-BY-SA-4.0" and weights.name == "clapcap-reference"
    tower = load_weights("reference", "clap").model.audio_encoder.state_dict()
    assert all(torch.equal(tensor, tower[key]) for key, tensor in weights.model.clap.state_dict().items())


def test_credits_are_free_and_name_no_class_that_was_kept_out(scores: dict) -> None:
    with (FOLDER / "CREDITS.csv").open(encoding="utf-8", newline="") as file:
        credits = list(csv.DictReader(file))
    assert {row["licence"] for row in credits} <= FREE_LICENCES
    assert all(row["author"] and row["source"] for row in credits)
    assert {row["label"] for row in credits} - {"speech"} == set(scores["seen"])
    # no clip of fold 4, and no class that the towers were kept from
    assert not [row["file"] for row in credits if row["corpus"] == "esc50" and row["file"][0] not in "123"]
    clap = json.loads((WEIGHTS / "clap/evaluation.json").read_text(encoding="utf-8"))
    assert scores["unseen"] == clap["unseen"] and scores["seen"] == clap["seen"]


def test_scores_reach_what_is_asked(scores: dict) -> None:
    heard, read = scores["captions"]["seen"], scores["text_only"]["seen"]
    assert heard["named"]["low"] >= 0.5
    assert read["named"]["low"] > read["named_by_chance"]["high"]
    assert heard["named"]["low"] > read["named"]["high"]


def test_the_card_holds_the_scores(scores: dict) -> None:
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for group in scores["captions"].values():
        assert f"| {group['named']['total']} | {100 * group['named']['share']:.1f} [" in card


def test_unheard_synthetic_sounds_are_named(weights: Weights) -> None:
    clips = [Clip(sound, sound, "synthetic", None, seed) for sound in SYNTHETIC for seed in SEEDS]
    # steady, rising and falling tones are taken for each other
    assert judge(captions(weights, clips), [clip.label for clip in clips]).named.share >= 0.6


def test_bundled_recordings_are_named_more_often_than_not(weights: Weights, scores: dict) -> None:
    # all of them are of held-out sources
    clips = [Clip(file.stem, file.stem, "clips", file) for file in sorted(CLIPS.glob("*.ogg"))]
    clips = [clip for clip in clips if clip.label in scores["seen"]]
    said = judge(captions(weights, clips), [clip.label for clip in clips])
    assert said.named.share > 0.5 and said.named.share > 5 * said.named_by_chance.share
    assert said.named.total >= 20
