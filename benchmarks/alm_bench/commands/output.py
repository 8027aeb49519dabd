"""How these commands speak: tables on stdout, what is under way on stderr while a terminal is there to see it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alm.commands.output import print_rows
from alm_bench.reports.tables import tables
from alm_bench.results.files import write_result
from alm_bench.results.records import BenchError, Result


@contextmanager
def under_way() -> Iterator[Callable[[str], None]]:
    """A callback that shows what is being measured."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda words: None
        return
    with console.status("measuring") as status:
        yield status.update


def parse_threads(text: str) -> tuple[int, ...]:
    """`1,2` as numbers; BenchError for anything else."""
    words = text.split(",")
    if not all(word.isdigit() and int(word) for word in words) or len(set(words)) != len(words):
        raise BenchError(f"--threads is {text!r}, expected numbers of threads such as 1 or 1,2,4")
    return tuple(map(int, words))


def show(result: Result, output: Path | None, as_json: bool) -> None:
    """Print a result, and write it to a file where one is named."""
    if output:
        write_result(result, output)
    if as_json:
        print(result.to_json(), end="")
        return
    for table in tables(result):
        print(table.title)
        print_rows(table.rows, table.header)
    if result.noise.busy:
        print("alm-bench: the machine was busy, so these figures are not to be quoted", file=sys.stderr)
