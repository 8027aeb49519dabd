"""How often a process repeats what it measures: single passes differ by 10 %, medians of several do not."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

PASSES_S = 1.0
"""No further pass begins after this long."""
LONGEST_S = 5.0
"""A first pass that takes longer is the only one: the authors' way needs 18 s."""


def repeated(once: Callable[[], dict[str, float]], warmed: Callable[[], None] = lambda: None) -> dict[str, float]:
    """Median of every stage over several passes.

    The first pass also reads weights and grows buffers, so it does not count, unless it is the only one. `warmed` is
    called after it.
    """
    started = time.perf_counter()
    first = once()
    warmed()
    if (now := time.perf_counter()) > started + LONGEST_S:
        return first
    passes = [once()]
    while time.perf_counter() < now + PASSES_S:
        passes.append(once())
    return {stage: statistics.median(one[stage] for one in passes) for stage in first}
