"""The README's table of speeds, written from a result file: never by hand.

python -m alm_bench.reports.readme README.md benchmarks/results/rivals.json
"""

from __future__ import annotations

import statistics
import sys
import textwrap
from pathlib import Path

from alm.commands.ending import run
from alm_bench.reports.figures import decode_share, percent, quantity, rate
from alm_bench.results.files import read_result
from alm_bench.results.records import BenchError, Result, Run, Side
from alm_bench.rivals.turns import OURS

BEGIN, END = "<!-- speed: made by 'make bench' -->", "<!-- speed ends -->"
HEADER = ("", "24 tokens about two clips", "prefix of 389", "tokens/s", "of the limit", "memory", "ours against it")
WIDTH = 120
"""Columns of a line in the README."""
NOTE = (
    "Without a time for two clips it is the decoder alone, on the same prefix; ours has both. Above 1x ours is faster: "
    "medians of the ratios within a turn. The limit is that of memory or arithmetic for a token, measured on the spot."
)


def table(result: Result) -> str:
    """The comparison as Markdown, with the machine it belongs to. BenchError for a result without our package."""
    ours = next((side for side in result.sides if side.name == OURS), None)
    if ours is None:
        names = ", ".join(side.name for side in result.sides)
        raise BenchError(f"found the sides {names}, expected {OURS!r} among them")
    threads = max(run.threads for run in ours.runs)
    mine = _run(ours, threads)
    rows = [_row(result, side, _run(side, threads), mine) for side in result.sides]
    lines = [_line(HEADER), _line(("---",) * len(HEADER)), *rows]
    here, rounds = result.environment, len(mine.stages["load"])
    title = (
        f"Full-size Mellow, random weights, {threads} threads of {here.processor} ({here.machine}, {here.cores} "
        f"cores), medians of {rounds}, {result.made[:10]}:"
    )
    versions = ", ".join(f"{name} {version}" for name, version in here.versions.items())
    below = [
        f"{NOTE} Versions: {versions}.",
        *(f"Not measured: {reason}." for reason in (result.absent or {}).values()),
    ]
    if result.noise.busy:
        below.append(f"The machine was busy: {'; '.join(result.noise.busy)}.")
    return "\n\n".join((title, "\n".join(lines), *(textwrap.fill(text, WIDTH) for text in below)))


def update(text: str, result: Result) -> str:
    """The README with the table of this result between its marks. BenchError when it lacks them."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise BenchError(f"the README has no {BEGIN} … {END} to write the table between")
    return f"{before}{begin}\n\n{table(result)}\n\n{end}{after}"


def main() -> None:
    """Write the table into a README."""
    if len(sys.argv) != 3:
        raise BenchError("expected two arguments: the README and a result of 'alm-bench rivals'")
    readme, source = map(Path, sys.argv[1:])
    readme.write_text(update(readme.read_text(encoding="utf-8"), read_result(source)), encoding="utf-8")


def _row(result: Result, side: Side, run: Run, mine: Run) -> str:
    speed = rate(run)
    if "answer" in run.stages:
        against = f"{_ahead(run, mine, 'answer'):.1f}x"
    else:
        # Answers may end early, so decoding is held against it by the step.
        against = f"{_ahead(run, mine, 'decode') * mine.steps / run.steps:.2f}x decoding"
        against += f", {_ahead(run, mine, 'prefix'):.2f}x prefix"
    cells = (
        side.about,
        quantity(_median(run, "answer")) if "answer" in run.stages else "",
        quantity(_median(run, "prefix")) if "prefix" in run.stages else "",
        f"{speed:.3g}" if speed else "",
        percent(decode_share(result, side, run)),
        f"{statistics.median(run.peak_mb):,.0f} MB" if run.peak_mb else "",
        "" if run is mine else against,
    )
    return _line(cells)


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def _ahead(run: Run, mine: Run, stage: str) -> float:
    """How many times as fast ours is in a stage: the median over turns, as a machine that changes its pace within the
    hour changes it for both sides of a turn."""
    return statistics.median(theirs / ours for theirs, ours in zip(run.stages[stage], mine.stages[stage], strict=True))


def _median(run: Run, stage: str) -> float:
    return statistics.median(run.stages[stage])


def _run(side: Side, threads: int) -> Run:
    found = next((run for run in side.runs if run.threads == threads and run.cache == "warm"), None)
    if found is None:
        raise BenchError(f"{side.name} was not measured with {threads} threads and a warm cache")
    return found


if __name__ == "__main__":
    run(main, "readme")
