"""`alm-bench report`: results as one page of HTML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    results: Annotated[list[Path], typer.Argument(metavar="RESULTS", help="Result files, or folders of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Page to write.")] = Path("report.html"),
) -> None:
    """Write a page with tables and plots that opens anywhere, without a network."""
    from alm_bench.reports.page import read_results, render

    page = render(read_results(results))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page, encoding="utf-8")
    print(output)
