"""Rounds that count: those in which the machine kept its pace.

Virtual machines have phases of seconds to minutes in which everything takes a third longer. What was measured in one
compares with nothing, and a fixed piece of work shows when one begins and ends.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar

from alm_bench.machine.noise import MOST_DRIFT

MOST = 2
"""Times the wanted rounds that are run at most, until enough of them are steady."""

Seconds = tuple[float, ...]
Result = TypeVar("Result")


def steady_rounds(
    rounds: int, once: Callable[[int], Result], work: Callable[[], Seconds]
) -> tuple[list[Result], Seconds, Seconds]:
    """What `once` gave in `rounds` rounds, and the times of the fixed `work` before and after them.

    A first round wakes the machine up and does not count. Another's pace is the slower one of the works around it.
    Rounds go on until enough are within MOST_DRIFT of the quickest work, and those of the quickest pace count: they are
    chosen by the work, and not by what was measured in them.
    """
    once(0)
    works, results = [work()], [once(1)]
    while True:
        works.append(work())
        middles = [statistics.median(seconds) for seconds in works]
        paces = [max(around) for around in pairwise(middles)]
        enough = sum(pace <= min(middles) * (1 + MOST_DRIFT) for pace in paces) >= rounds
        if enough or len(results) >= MOST * rounds:
            break
        results.append(once(len(results) + 1))
    kept = sorted(sorted(range(len(results)), key=paces.__getitem__)[:rounds])
    return [results[number] for number in kept], works[kept[0]], works[kept[-1] + 1]
