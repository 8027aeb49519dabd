"""How steady a machine is, and who else uses it.

python -m alm_bench.machine.noise     # prints the fixed work's times as one line of JSON
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alm_bench.results.records import Noise

REPEATS = 15
SIZE = 320
"""Rows of the matrices of the fixed work."""
SPINS, PRODUCTS = 200_000, 16
"""Turns of the interpreter's loop and matrix products in the fixed work, some 15 ms in all on an idle core."""
READ_MB, READS = 64, 2
"""Memory that is read, more than caches hold, and how often: some 10 ms. Neighbours take bandwidth and no core."""
MOST_SPREAD, MOST_DRIFT, MOST_OTHERS = 0.10, 0.05, 0.10
"""A quiet machine: spread of the fixed work, change of its median meanwhile, cores that others use."""


def fixed_work() -> tuple[float, ...]:
    """Seconds of the same work, REPEATS times: an interpreter's loop, matrix products and reads, the first left out.

    In a process of its own with one BLAS thread: a second one that comes and goes changes the times by a quarter.
    """
    matrix = np.random.default_rng(0).standard_normal((SIZE, SIZE)).astype(np.float32)
    numbers, seconds = np.ones(READ_MB * 2**20 // 4, np.float32), []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        total = 0
        for number in range(SPINS):
            total += number
        for _ in range(PRODUCTS):
            matrix @ matrix
        for _ in range(READS):
            numbers @ numbers
        seconds.append(time.perf_counter() - started)
    return tuple(seconds[1:])


def spread(seconds: Sequence[float]) -> float:
    """From the lower to the upper quartile, as a share of the median."""
    if len(seconds) < 2:
        return 0.0
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
    middle = statistics.median(seconds)
    return (high - low) / middle if middle else 0.0


class Others:
    """Processor time of everybody else since it was made."""

    def __init__(self) -> None:
        self._started, self._busy, self._own = time.monotonic(), _machine_seconds(), _own_seconds()

    def cores(self) -> float:
        """Cores that other processes kept busy on average; time that a host takes from a guest counts."""
        took = time.monotonic() - self._started
        others = _machine_seconds() - self._busy - (_own_seconds() - self._own)
        return max(0.0, others / took)


def judge(before: tuple[float, ...], after: tuple[float, ...], others: float) -> Noise:
    """The noise with the reasons, if any, why the machine counts as busy."""
    reasons = [
        f"the same work took times that spread by {spread(readings):.0%} {when}, expected at most {MOST_SPREAD:.0%}"
        for when, readings in (("before", before), ("afterwards", after))
        if spread(readings) > MOST_SPREAD
    ]
    drift = statistics.median(after) / statistics.median(before) - 1
    if abs(drift) > MOST_DRIFT:
        reasons.append(f"the same work took {drift:+.0%} afterwards, expected at most {MOST_DRIFT:.0%} either way")
    if others > MOST_OTHERS:
        reasons.append(f"other processes used {others:.2f} cores, expected at most {MOST_OTHERS:g}")
    return Noise(before, after, others, tuple(reasons))


def _machine_seconds() -> float:
    # user, nice, system, irq, softirq and steal; not idle and not waiting for a disk.
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(ticks[:3]) + sum(ticks[5:8])) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


if __name__ == "__main__":
    print(json.dumps({"seconds": fixed_work()}))
