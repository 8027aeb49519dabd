"""One training stage: steps, learning rate, averaged weights, checkpoints, and going on after a kill.

Every step draws its randomness from (seed, step) alone. A run that was killed and resumed therefore takes
exactly the steps that an uninterrupted one takes.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

LOG = "log.jsonl"
"""Name of the log in the folder of a run."""
Metrics = dict[str, float]

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a stage learns."""

    steps: int
    """Optimiser steps of the whole stage."""
    learning_rate: float
    """Peak of the learning rate; a linear rise, then a cosine to zero."""
    warmup_steps: int
    """Steps of the linear rise."""
    weight_decay: float
    """AdamW decay of matrices; vectors (biases, norms) have none."""
    average: float
    """Decay of the exponential moving average of the weights."""
    gradient_clip: float
    """Largest gradient norm."""
    seed: int
    """Seed of the stage."""
    checkpoint_seconds: float
    """Seconds between two checkpoints."""
    validate_steps: int
    """Steps between two validations of the averaged weights."""

    def rate_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


Loss = Callable[[M, int, torch.Generator], tuple[Tensor, Metrics]]
"""(module in training mode, step, generator of that step) to the loss and what to log beside it."""
Validate = Callable[[M], Metrics]
"""The averaged module in evaluation mode to its scores."""
Report = Callable[[str, int, int, Metrics], None]
"""(stage, steps done, steps in all, what was logged)."""


def run_stage(
    name: str, module: M, schedule: Schedule, loss: Loss[M], validate: Validate[M], folder: Path, report: Report
) -> M:
    """Train `module` in place, resuming from `folder/NAME.pt` when it is there; returns the averaged module.

    `folder`/LOG gets one line per validation and per hundred steps.
    """
    folder.mkdir(parents=True, exist_ok=True)
    average = copy.deepcopy(module).eval().requires_grad_(False)
    optimiser = torch.optim.AdamW(_groups(module, schedule.weight_decay), lr=schedule.learning_rate, betas=(0.9, 0.98))
    checkpoint = folder / f"{name}.pt"
    step = _restore(checkpoint, module, average, optimiser)
    saved = logged = time.monotonic()
    while step < schedule.steps:
        module.train()
        torch.manual_seed(schedule.seed * 1_000_003 + step)
        generator = torch.Generator().manual_seed(schedule.seed * 1_000_003 + step)
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate_at(step)
        value, metrics = loss(module, step, generator)
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(module.parameters(), schedule.gradient_clip)
        optimiser.step()
        step += 1
        _average(average, module, min(schedule.average, step / (step + 10)))
        metrics = {"loss": value.item(), **metrics}
        now = time.monotonic()
        if step % schedule.validate_steps == 0 or step == schedule.steps:
            metrics |= validate(average)
            _log(folder, name, step, schedule, metrics)
        elif step % 100 == 0:
            _log(folder, name, step, schedule, metrics | {"steps_per_second": round(100 / (now - logged), 3)})
        if step % 100 == 0:
            logged = now
        if now - saved > schedule.checkpoint_seconds or step == schedule.steps:
            _save(checkpoint, module, average, optimiser, step)
            saved = now
        report(name, step, schedule.steps, metrics)
    return average


def _groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    trained = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


@torch.no_grad()
def _average(average: nn.Module, module: nn.Module, decay: float) -> None:
    for kept, new in zip(average.state_dict().values(), module.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def _save(file: Path, module: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer, step: int) -> None:
    state = {
        "module": module.state_dict(),
        "average": average.state_dict(),
        "optimiser": optimiser.state_dict(),
        "step": step,
    }
    partial = file.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(file)


def _restore(file: Path, module: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    if not file.exists():
        return 0
    state = torch.load(file, weights_only=True)
    module.load_state_dict(state["module"])
    average.load_state_dict(state["average"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


def _log(folder: Path, name: str, step: int, schedule: Schedule, metrics: Metrics) -> None:
    line = {"stage": name, "step": step, "rate": schedule.rate_at(step - 1), "time": round(time.time()), **metrics}
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
