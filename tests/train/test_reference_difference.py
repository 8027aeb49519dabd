"""The ADIFF weights that ship: small, credited, behind the shipped Mellow's encoder, as good as their card says."""

from __future__ import annotations

import csv
import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from alm_train.checkpoints.weights import load_weights
from alm_train.data.recordings import FREE_LICENCES
from alm_train.data.sounds import SYNTHETIC
from alm_train.data.synthetic import synthesise
from alm_train.difference.wording import LENGTHS, OFFICIAL, STEMS, TASKS, UNSEEN_STEMS, is_right, prompt
from alm_train.models.adiff import Adiff
from alm_train.models.clap import SUFFIX
from alm_train.models.decoding import greedy

FOLDER = Path(str(files("alm_train"))) / "weights/adiff"
# Far from every seed that training uses.
SEED = 77_000_001
BRIEF = ("words", "first", "second")


@pytest.fixture(scope="module")
def adiff() -> Adiff:
    model = load_weights("reference", "adiff").model
    assert isinstance(model, Adiff)
    return model


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_str(load_weights("reference", "adiff").tokenizer)


@pytest.fixture(scope="module")
def scores() -> dict:
    return json.loads((FOLDER / "evaluation.json").read_text(encoding="utf-8"))


def test_size_licence_and_credits() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 25_000_000
    assert load_weights("reference", "adiff").licence == "CC-BY-SA-4.0"
    with (FOLDER / "CREDITS.csv").open(encoding="utf-8", newline="") as file:
        credits = list(csv.DictReader(file))
    assert {row["licence"] for row in credits} <= FREE_LICENCES
    assert all(row["author"] and row["source"] for row in credits)
    # Fold 4 is held out; the manifest's files begin with their fold.
    assert not any(row["file"].startswith("4-") for row in credits if row["corpus"] == "esc50")


def test_the_encoder_is_that_of_the_shipped_mellow(adiff: Adiff) -> None:
    own = load_weights("reference").model.audio_encoder.base.htsat.state_dict()
    found = adiff.audio_encoder.base.htsat.state_dict()
    assert own.keys() == found.keys()
    assert all(torch.equal(tensor, found[key]) for key, tensor in own.items())


def test_every_task_beats_the_support_vector_machine_on_unheard_recordings(scores: dict) -> None:
    assert {(score["task"], score["wording"]) for score in scores["tasks"]} == {
        *((task, "official") for task in TASKS),
        *((task, "unseen") for task in LENGTHS),
    }
    for score in scores["tasks"]:
        assert score["model"]["total"] == 398
        assert score["model"]["low"] > 10 * score["chance"]
        if score["wording"] == "official":
            assert score["model"]["share"] > score["svm"]["share"]
    assert scores["compared"]["low"] > 0.5


def test_every_wording_fits_in_its_slot(adiff: Adiff, tokenizer: Tokenizer) -> None:
    rng = np.random.default_rng(0)
    texts = {prompt(task, rng, stems) for stems in (STEMS, UNSEEN_STEMS) for task in TASKS for _ in range(300)}
    assert max(len(tokenizer.encode(text + SUFFIX).ids) for text in texts) <= adiff.config.slot_tokens
    assert tokenizer.encode(OFFICIAL["words"] + SUFFIX).ids[-2:] == [adiff.config.stop_id, adiff.config.separator_id]


@torch.inference_mode()
def test_unheard_synthetic_sounds_are_told_apart(adiff: Adiff, tokenizer: Tokenizer) -> None:
    frontend = adiff.config.encoder.frontend
    sounds = {
        label: torch.from_numpy(synthesise(label, SEED, frontend.samples, frontend.sample_rate)[None])
        for label in SYNTHETIC
    }
    heard = {label: adiff.audio_encoder(sound) for label, sound in sounds.items()}
    asked = {task: torch.tensor([adiff.pad(tokenizer.encode(OFFICIAL[task] + SUFFIX).ids)]) for task in BRIEF}
    right = []
    for first, second in zip(SYNTHETIC, (*SYNTHETIC[1:], SYNTHETIC[0]), strict=True):
        for task, ids in asked.items():
            prefix = adiff.caption_decoder.prefix(heard[first], heard[second], ids)
            said = greedy(adiff.caption_decoder.gpt, prefix, adiff.config.stop_id, 60)
            right.append(is_right(task, first, second, tokenizer.decode(said).strip()))
    assert sum(right) >= 0.75 * len(right)
