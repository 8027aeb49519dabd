"""A sweep: what to measure, in which settings, and what the processes of each setting told."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from alm_bench.results.records import Run

Cache = Literal["warm", "cold"]
T = TypeVar("T")

ROUNDS = 9
"""Readings of each setting: loading, which a process does once, differs by 10 % between processes."""
TOKENS = 24
"""Length of the answers that are measured."""


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    threads: tuple[int, ...] = (1,)
    """Compute threads, swept."""
    caches: tuple[Cache, ...] = ("warm", "cold")
    """States of the page cache."""
    rounds: int = ROUNDS
    """Readings of each setting that count (`steady_rounds`)."""
    sounds: int = 2
    """Sounds played in real time; 0 leaves streaming out."""
    energy: bool = True
    """Whether to look for a meter."""
    tokens: int = TOKENS
    """Tokens of an answer."""


@dataclass(frozen=True)
class Setting:
    """One cell of the sweep."""

    name: str
    """The side it belongs to."""
    path: Path
    """The package."""
    threads: int
    """Compute threads."""
    cache: Cache
    """Whether the file is in memory before."""


Readings = dict[Setting, dict[str, Any]]
"""What the processes of one round told."""


def in_turn(sides: Sequence[T], turn: int) -> list[T]:
    """What is measured, in an order drawn for each turn: what ran before a side moves its prefix by up to 7 %, so
    nobody has the same neighbour every time."""
    return random.Random(turn).sample(sides, len(sides))


def readings_of(name: str, rounds: Sequence[Readings]) -> dict[Setting, list[dict[str, Any]]]:
    """What a side's processes told, by setting, over several rounds of the same settings."""
    return {setting: [told[setting] for told in rounds] for setting in rounds[0] if setting.name == name}


def joined(setting: Setting, readings: list[dict[str, Any]]) -> Run:
    """What several processes read of one setting."""
    first = readings[0]
    stages = {name: tuple(reading["stages"][name] for reading in readings) for name in first["stages"]}
    peaks = tuple(reading["peak_mb"] for reading in readings if first["unit"] == "s")
    return Run(setting.threads, setting.cache, first["unit"], first["positions"], first["steps"], stages, peaks)


def names_of(paths: Sequence[Path]) -> tuple[str, ...]:
    """What tables call a file: its name, with the folder where others share it, numbered if that does not help."""
    others = set(paths)
    names = [
        path.stem
        if sum(path.stem == other.stem for other in others) == 1
        else f"{path.absolute().parent.name}/{path.stem}"
        for path in paths
    ]
    return tuple(
        name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})"
        for place, name in enumerate(names)
    )
