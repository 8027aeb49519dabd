"""How results differ from the first of them, setting by setting and stage by stage."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alm_bench.reports.figures import quantity
from alm_bench.reports.tables import Table
from alm_bench.results.records import STAGES, BenchError, Result, Run, Side


@dataclass(frozen=True)
class Change:
    """One stage in one setting over several results."""

    what: str
    """Side and setting."""
    stage: str
    """Of STAGES."""
    unit: str
    """What the readings count."""
    medians: tuple[float, ...]
    """One per result, in their order."""

    @property
    def ratios(self) -> tuple[float, ...]:
        """The first result's median over each one's: above 1 is better than the first."""
        return tuple(self.medians[0] / median if median else 1.0 for median in self.medians)


def changes(results: Mapping[str, Result]) -> list[Change]:
    """What all results have in common. BenchError when they count different things, or share no setting."""
    first, *others = results.values()
    single = all(len(result.sides) == 1 for result in results.values())
    found = []
    for side in first.sides:
        for run in side.runs:
            runs = [run, *(_like(result, side, run, single) for result in others)]
            if None in runs:
                continue
            for stage in STAGES:
                if all(stage in other.stages for other in runs if other):
                    medians = tuple(statistics.median(other.stages[stage]) for other in runs if other)
                    name = "" if single else f"{side.name}, "
                    what = f"{name}{run.threads} thread{'s' if run.threads > 1 else ''}, {run.cache}"
                    found.append(Change(what, stage, run.unit, medians))
    if not found:
        raise BenchError(
            f"{' and '.join(results)} have no setting in common: the same number of threads, state of the page cache "
            "and unit, and the same names where one file holds several sides"
        )
    return found


def exceeded(differences: Sequence[Change], within: float) -> list[str]:
    """The readings that differ from the first result's by more than this share, in words."""
    return [
        f"{change.what}, {change.stage}: {quantity(median, change.unit)} against "
        f"{quantity(change.medians[0], change.unit)} ({median / change.medians[0] - 1:+.1%})"
        for change in differences
        for median in change.medians[1:]
        if change.medians[0] and abs(median / change.medians[0] - 1) > within
    ]


def table(results: Mapping[str, Result], differences: Sequence[Change]) -> Table:
    """A column per result: its median, and how many times better than the first it is."""
    rows = tuple(
        (
            change.what,
            change.stage.replace("_", " "),
            quantity(change.medians[0], change.unit),
            *(
                f"{quantity(median, change.unit)}  {ratio:.2f}x"
                for median, ratio in zip(change.medians[1:], change.ratios[1:], strict=True)
            ),
        )
        for change in differences
    )
    busy = [name for name, result in results.items() if result.noise.busy]
    title = "Medians; 2.00x is twice as good as the first" + (f"; BUSY machine: {', '.join(busy)}" if busy else "")
    return Table(title, ("", "stage", *results), rows)


def _like(result: Result, side: Side, run: Run, single: bool) -> Run | None:
    for other in result.sides:
        if single or other.name == side.name:
            for candidate in other.runs:
                if (candidate.threads, candidate.cache, candidate.unit) == (run.threads, run.cache, run.unit):
                    return candidate
    return None
