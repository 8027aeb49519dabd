"""What follows from readings: medians with their spread, rates, and shares of what the machine can give."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from alm_bench.machine.noise import spread
from alm_bench.results.records import PackageFacts, Result, Roofline, Run, Score, Side

KEPT = {"agreement": "next tokens", "ranking": "orders of two texts"}
"""What exporters count as equal to float32, by the name of the share: the first that a package has is shown."""


BOUNDS = ("memory", "matrix products")
"""What limits a decoding step: reading the weights and the cache, or multiplying by the weights in float32."""


@dataclass(frozen=True)
class Middle:
    """Several readings of one thing."""

    median: float
    """The middle one."""
    spread: float
    """From the lower to the upper quartile, as a share of the median."""
    n: int
    """How many."""


def middle(readings: Sequence[float]) -> Middle:
    """Median and spread of at least one reading."""
    return Middle(statistics.median(readings), spread(readings), len(readings))


def rate(run: Run) -> float | None:
    """Tokens per second, or per million instructions, while an answer is decoded; None without decoding."""
    if "decode" not in run.stages or not run.steps:
        return None
    return run.steps / statistics.median(run.stages["decode"]) * (1e6 if run.unit == "instructions" else 1)


def decode_share(result: Result, side: Side, run: Run) -> float | None:
    """Share of the machine's limit at which a package or rival decodes.

    A step takes at least as long as reading the weights and the cache once, and as its products at the float32 rate.
    The former decides with a KV cache, the latter without one.
    """
    limits, speed = _step_limits(result, side, run), rate(run)
    return None if limits is None or speed is None else speed * max(limits)


def decode_bound(result: Result, side: Side, run: Run) -> str | None:
    """Which of BOUNDS limits decoding; None where nothing is known of it."""
    limits = _step_limits(result, side, run)
    return None if limits is None else BOUNDS[limits.index(max(limits))]


def prefill_share(result: Result, side: Side, run: Run) -> float | None:
    """Share of the float32 matrix rate that the prefix reaches, or the question where the prefix was not measured;
    8-bit products may pass 1."""
    limit, work = _limit(result, run), side.work
    if limit is None or work is None or run.unit != "s":
        return None
    for flop, stage in ((work.prefix_flop, "prefix"), (work.prefill_flop, "prefill")):
        if flop is not None and stage in run.stages:
            return flop / statistics.median(run.stages[stage]) / 1e9 / limit.gemm_gflops
    return None


def kept(facts: PackageFacts) -> tuple[Score, str] | None:
    """The share of a package's decisions that are float32's, and what was decided; None where nobody counted."""
    return next(((facts.quality[name], words) for name, words in KEPT.items() if name in facts.quality), None)


def quantity(value: float, unit: str = "s") -> str:
    """A number people can read: 1.23 s, 45 ms, 1,234 million instructions."""
    if unit == "instructions":
        return f"{value / 1e6:,.1f} M instructions"
    if value < 0.1:
        return f"{1000 * value:.1f} ms"
    return f"{value:.2f} s"


def reading(run: Run, stage: str) -> str:
    """A stage of a run as a table shows it: median, and spread where there are several readings."""
    if stage not in run.stages:
        return ""
    found = middle(run.stages[stage])
    return quantity(found.median, run.unit) + (f" ±{found.spread / 2:.0%}" if found.n > 1 else "")


def percent(share: float | None) -> str:
    """A share as a table shows it."""
    return "" if share is None else f"{share:.0%}"


def _step_limits(result: Result, side: Side, run: Run) -> tuple[float, float] | None:
    """The least seconds of a decoding step, by each of BOUNDS."""
    limit = _limit(result, run)
    if limit is None or side.work is None or run.unit != "s":
        return None
    return side.work.step_bytes / limit.read_gbs / 1e9, (side.work.step_flop or 0) / limit.gemm_gflops / 1e9


def _limit(result: Result, run: Run) -> Roofline | None:
    return next((limit for limit in result.roofline if limit.threads == run.threads), None)
