"""`alm-bench report`: results as one page of HTML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alm_bench.results.files import write_text


def report(
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS", help="Result files, or folders of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", dir_okay=False, help="Page to write.")] = Path(
        "report.html"
    ),
) -> None:
    """Write a page with tables and plots that opens anywhere, without a network."""
    from alm_bench.reports.page import read_results, render

    write_text(output, render(read_results(results)))
    print(output)
