"""`alm-bench rivals`: full-size Mellow against other ways to run it, in turn."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from alm_bench.commands.output import parse_threads, show, under_way
from alm_bench.commands.running import AsJson, Output, Rounds, Threads
from alm_bench.results.records import BenchError


def rivals(
    only: Annotated[list[str] | None, typer.Option(help="A rival to run; may be repeated.", show_default="all")] = None,
    threads: Threads = "1,2",
    rounds: Rounds = 3,
    folder: Annotated[
        Path | None, typer.Option(file_okay=False, help="Keep here what rivals read, and make only what is missing.")
    ] = None,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Compare a package of full-size Mellow with other ways to run the same weights. Needs the extra 'rivals'."""
    from alm_bench.rivals.turns import RIVALS, measure_rivals

    names = only or list(RIVALS)
    if unknown := [name for name in names if name not in RIVALS]:
        raise BenchError(f"unknown rival {unknown[0]!r}; this version has {', '.join(RIVALS)}")
    counts = parse_threads(threads)
    with tempfile.TemporaryDirectory(prefix="alm-bench-") as passing, under_way() as report:
        kept = folder or Path(passing)
        kept.mkdir(parents=True, exist_ok=True)
        result = measure_rivals(names, kept, counts, rounds, report)
    show(result, output, as_json)
