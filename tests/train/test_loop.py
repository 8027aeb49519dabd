"""The training loop: going on after a kill, the schedule, what is logged."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from dying import Killed
from torch import nn

from alm_train.loop import Schedule, run_stage

SCHEDULE = Schedule(
    steps=12, learning_rate=0.05, warmup_steps=3, weight_decay=0.1, average=0.8, gradient_clip=1.0, seed=7,
    checkpoint_seconds=0.0, validate_steps=4,
)  # fmt: skip


def _train(folder: Path, die_after: int | None = None) -> nn.Module:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))

    def loss(module: nn.Module, step: int, generator: torch.Generator):
        inputs = torch.randn(16, 4, generator=generator)
        return (module(inputs) - inputs.sum(1, keepdim=True)).square().mean(), {}

    def report(name: str, done: int, total: int, metrics: dict[str, float]) -> None:
        if done == die_after:
            raise Killed

    return run_stage("stage", module, SCHEDULE, loss, lambda module: {"right_share": 1.0}, folder, report)


def _same(first: nn.Module, second: nn.Module) -> bool:
    states = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in states)


@pytest.mark.parametrize("die_after", [1, 5, 11])
def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path, die_after: int) -> None:
    whole = _train(tmp_path / "whole")
    with pytest.raises(Killed):
        _train(tmp_path / "killed", die_after)
    assert _same(whole, _train(tmp_path / "killed"))


def test_a_finished_stage_is_not_trained_again(tmp_path: Path) -> None:
    first = _train(tmp_path)
    log = (tmp_path / "log.jsonl").read_text()
    assert _same(first, _train(tmp_path, die_after=1))
    assert (tmp_path / "log.jsonl").read_text() == log


def test_the_log_has_every_validation(tmp_path: Path) -> None:
    _train(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 12]
    assert all(line["right_share"] == 1.0 and line["stage"] == "stage" and line["loss"] > 0 for line in lines)


def test_the_rate_rises_then_falls_to_zero() -> None:
    rates = [SCHEDULE.rate_at(step) for step in range(12)]
    assert rates[0] == pytest.approx(0.05 / 3) and max(rates) == rates[2] == pytest.approx(0.05)
    assert all(a > b for a, b in pairwise(rates[2:]))
    assert SCHEDULE.rate_at(12) == pytest.approx(0.0, abs=1e-9)


def test_training_learns_and_the_average_follows(tmp_path: Path) -> None:
    averaged = _train(tmp_path)
    assert not averaged.training
    torch.manual_seed(0)
    untrained = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1)).eval()
    inputs = torch.randn(256, 4)
    target = inputs.sum(1, keepdim=True)
    assert (averaged(inputs) - target).square().mean() < (untrained(inputs) - target).square().mean()
