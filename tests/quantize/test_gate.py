"""The quality gate: climbs the part that costs most, stops inside the budget, refuses past it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from alm.errors import ExportError, QualityError
from alm_quantize.gate import PARTS, Assignment, Trial, search
from alm_quantize.quality import Quality, Score

LADDERS = {
    "audio_encoder": ("e0", "e1"),
    "decoder": ("d0", "d1"),
    "head": ("h0", "h1", "h2"),
}
Costs = Mapping[str, int]


def quality(differing: int) -> Quality:
    return Quality(Score(1000 - differing, 1000), 0.0, Score(0, 0), Score(0, 0))


def measured(costs: Costs, seen: list[Assignment]):
    """A measurement where each scheme costs so many of a thousand decisions, and costs add up."""

    def measure(schemes: Assignment) -> Trial:
        seen.append(schemes)
        encoder, decoder, head = (costs[schemes[part]] for part in PARTS)
        alone = {"audio_encoder": quality(encoder), "decoder": quality(decoder + head)}
        return Trial(schemes, quality(encoder + decoder + head), alone)

    return measure


def test_the_cheapest_is_taken_when_it_is_inside() -> None:
    seen: list[Assignment] = []
    costs = {"e0": 20, "d0": 20, "h0": 10}
    trials = search(LADDERS, measured(costs, seen), 0.05)
    assert [trial.schemes for trial in trials] == seen == [{"audio_encoder": "e0", "decoder": "d0", "head": "h0"}]
    assert trials[0].loss == pytest.approx(0.05)


def test_the_costliest_part_climbs_first() -> None:
    seen: list[Assignment] = []
    costs = {"e0": 200, "e1": 0, "d0": 20, "d1": 0, "h0": 20, "h1": 0, "h2": 0}
    trials = search(LADDERS, measured(costs, seen), 0.04)
    assert [tuple(schemes.values()) for schemes in seen] == [("e0", "d0", "h0"), ("e1", "d0", "h0")]
    assert trials[-1].loss == pytest.approx(0.04)


def test_the_head_climbs_before_the_decoder_and_both_before_a_cheaper_encoder() -> None:
    seen: list[Assignment] = []
    costs = {"e0": 5, "e1": 0, "d0": 100, "d1": 90, "h0": 80, "h1": 60, "h2": 40}
    with pytest.raises(QualityError):
        search(LADDERS, measured(costs, seen), 0.001)
    assert [tuple(schemes.values()) for schemes in seen] == [
        ("e0", "d0", "h0"),
        ("e0", "d0", "h1"),
        ("e0", "d0", "h2"),
        ("e0", "d1", "h2"),
        ("e1", "d1", "h2"),
    ]


def test_equal_costs_are_settled_by_the_order_of_parts() -> None:
    seen: list[Assignment] = []
    costs = {"e0": 50, "e1": 50, "d0": 50, "d1": 50, "h0": 0}
    with pytest.raises(QualityError):
        search({**LADDERS, "head": ("h0",)}, measured(costs, seen), 0.01)
    assert [tuple(schemes.values()) for schemes in seen] == [("e0", "d0", "h0"), ("e1", "d0", "h0"), ("e1", "d1", "h0")]


def test_a_refusal_lists_every_trial_and_says_what_to_do() -> None:
    costs = {"e0": 30, "d0": 40, "h0": 50, "h1": 20}
    ladders = {"audio_encoder": ("e0",), "decoder": ("d0",), "head": ("h0", "h1")}
    with pytest.raises(QualityError) as refused:
        search(ladders, measured(costs, []), 0.05)
    assert isinstance(refused.value, ExportError)
    text = str(refused.value)
    assert "more than the budget of 5.0% allows" in text
    assert "12.0% of next-token decisions differ" in text
    assert "audio_encoder e0, decoder d0, head h0: 12.0%" in text
    assert "audio_encoder e0, decoder d0, head h1: 9.0%" in text
    assert "--int8, --fp32" in text
    assert "--budget" in text


def test_a_budget_of_nothing_is_met_by_no_loss_only() -> None:
    ladders = dict.fromkeys(PARTS, ("x",))
    assert len(search(ladders, measured({"x": 0}, []), 0.0)) == 1
    with pytest.raises(QualityError):
        search({**ladders, "head": ("y",)}, measured({"x": 0, "y": 1}, []), 0.0)
