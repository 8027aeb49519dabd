"""The weights that ship: small enough, credited, and as good as their card says on sounds anyone can make."""

from __future__ import annotations

import csv
import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from alm_train.answering.scoring import is_right
from alm_train.checkpoints.weights import Weights, load_weights
from alm_train.data.questions import KINDS, Pair, Question, choice_of_four, make_question
from alm_train.data.recordings import FREE_LICENCES
from alm_train.data.sounds import SYNTHETIC
from alm_train.data.synthetic import synthesise

FOLDER = Path(str(files("alm_train"))) / "weights/mellow"
# Far from every seed that training or its evaluation uses.
SEEDS = (77_000_001, 77_000_002)


@pytest.fixture(scope="module")
def weights() -> Weights:
    return load_weights("reference")


@pytest.fixture(scope="module")
def heard(weights: Weights) -> dict[tuple[str, int], torch.Tensor]:
    """Audio tokens of unheard synthetic sounds."""
    frontend = weights.model.config.encoder.frontend
    with torch.inference_mode():
        return {
            (label, seed): weights.model.audio_tokens(
                torch.from_numpy(synthesise(label, seed, frontend.samples, frontend.sample_rate)[None])
            )
            for label in SYNTHETIC
            for seed in SEEDS
        }


def _answer(weights: Weights, tokens: torch.Tensor, question: Question) -> str:
    tokenizer = Tokenizer.from_str(weights.tokenizer)
    ids = torch.tensor([weights.model.pad(tokenizer.encode(question.text).ids)])
    return tokenizer.decode(weights.model.generate(weights.model.prefix(tokens, tokens, ids), 32))


def test_size_and_licence(weights: Weights) -> None:
    assert sum(p.numel() for p in weights.model.parameters()) <= 12_000_000
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 25_000_000
    assert weights.licence == "CC-BY-SA-4.0"


def test_every_credit_is_of_a_free_licence() -> None:
    with (FOLDER / "CREDITS.csv").open(encoding="utf-8", newline="") as file:
        credits = list(csv.DictReader(file))
    assert {row["licence"] for row in credits} <= FREE_LICENCES
    assert all(row["author"] and row["source"] for row in credits)
    assert sum(row["corpus"] == "esc50" for row in credits) == 1028


def test_scores_on_unseen_recordings_reach_what_is_asked() -> None:
    scores = json.loads((FOLDER / "evaluation.json").read_text(encoding="utf-8"))["esc50"]
    accuracy = {(s["answerer"], s["kind"]): s["accuracy"] for s in scores}
    assert accuracy["model", "caption"] >= 0.55
    assert accuracy["model", "choice"] >= 0.85
    assert accuracy["model", "yes_no"] >= 0.82
    for kind in KINDS:
        assert accuracy["model", kind] > max(accuracy["majority", kind], accuracy["svm", kind])


@pytest.mark.parametrize("kind", ["caption", "choice", "yes_no"])
def test_unheard_synthetic_sounds_are_recognised(
    weights: Weights, heard: dict[tuple[str, int], torch.Tensor], kind: str
) -> None:
    rng = np.random.default_rng(0)
    right = []
    for (label, _), tokens in heard.items():
        pair = Pair(label, label)
        question = choice_of_four(rng, pair) if kind == "choice" else make_question(kind, rng, pair)
        right.append(is_right(question, pair, _answer(weights, tokens, question)))
    assert np.mean(right) >= 0.8


def test_nothing_it_is_asked_breaks_it(weights: Weights, heard: dict[tuple[str, int], torch.Tensor]) -> None:
    tokens = next(iter(heard.values()))
    for text in ("", "ÜBER 日本 !!! <|endoftext|>", "is there a unicorn?"):
        assert isinstance(_answer(weights, tokens, Question("caption", text, "")), str)
