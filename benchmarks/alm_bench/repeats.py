"""How often a process repeats what it measures: single passes differ by 10 %, medians of several do not."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

PASSES = 25
"""Passes that count, at most."""
LONGEST_S = 2.0
"""A process begins no further pass after this; one of the authors' way alone takes 18 s."""


def repeated(once: Callable[[], dict[str, float]], warmed: Callable[[], None] = lambda: None) -> dict[str, float]:
    """Median of every stage over several passes.

    The first pass also reads weights and grows buffers, so it does not count, unless it took so long that it is the
    only one. `warmed` is called after it.
    """
    started = time.perf_counter()
    first = once()
    warmed()
    passes = []
    while len(passes) < PASSES and time.perf_counter() < started + LONGEST_S:
        passes.append(once())
    return {stage: statistics.median(one[stage] for one in passes or [first]) for stage in first}
