"""What `alm-export` shows: what a request resolves to, how far the work is, and what came out."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

if TYPE_CHECKING:
    from alm_export.pipeline import Exported, Request


class Display:
    """Progress bars, one per stage that has begun."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description:<24}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
        )
        self.progress = Progress(*columns, TimeElapsedColumn(), console=console)
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Display:
        self.progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.progress.stop()

    def report(self, stage: str, done: int, total: int) -> None:
        """Show that `stage` has done `done` of `total`."""
        from alm_export.pipeline import STAGES

        if stage not in self.tasks:
            self.tasks[stage] = self.progress.add_task(STAGES[stage])
        self.progress.update(self.tasks[stage], completed=done, total=total or None)


def print_plan(console: Console, request: Request) -> None:
    """What the target and the precision resolve to, part by part."""
    console.print(f"[bold]{request.target.name}[/bold]: {request.target.description}")
    for engine, ladders in request.ladders.items():
        console.print(f"[bold]{engine}[/bold]")
        for part, ladder in ladders.items():
            more = f" (then {', '.join(ladder[1:])} if the budget asks for it)" if ladder[1:] else ""
            console.print(f"  {part:<14}{ladder[0]}{more}", highlight=False, soft_wrap=True)


def print_summary(console: Console, exported: Exported) -> None:
    """Tables of parity, delegation and quality, the licence, and what to run next."""
    from alm_export.card import QUALITY_COLUMNS, quality_rows
    from alm_export.executorch_program import DELEGATION

    parity = Table("engine", "stage", "difference from PyTorch float32", title="Parity", title_justify="left")
    for engine, made in exported.made.items():
        for stage in made.parity.stages:
            unit = " tokens differ" if stage.stage == "tokens" else ""
            parity.add_row(engine, stage.stage, f"{stage.difference:.3g}{unit}")
    console.print(parity)
    for made in exported.made.values():
        if report := made.draft.components.entries.get(DELEGATION):
            _print_delegation(console, json.loads(report))
    quality = Table(*QUALITY_COLUMNS, title="Quality", title_justify="left")
    for row in quality_rows(exported.manifest):
        quality.add_row(*row)
    console.print(quality if quality.rows else exported.manifest.quality["not_measured"])
    weights = exported.manifest.weights
    size, path = exported.path.stat().st_size / 1e6, escape(os.fspath(exported.path))
    lines = (
        f"\nLicence of the weights: {escape(weights.licence)} ({weights.source})",
        f"[bold green]{path}[/bold green]  {size:.1f} MB, verified",
        f"Next: {escape(exported.example)}",
    )
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _print_delegation(console: Console, report: Mapping[str, Mapping[str, Any]]) -> None:
    columns = ("method", "delegates", "operators in them", Column("outside", overflow="fold"))
    table = Table(*columns, title="Run by XNNPACK", title_justify="left")
    for method, found in report.items():
        outside = ", ".join(f"{count} {operator}" for operator, count in found["outside"].items())
        table.add_row(method, str(found["delegates"]), str(found["nodes"]), outside or "nothing")
    console.print(table)


def summary(exported: Exported) -> dict[str, object]:
    """What --json prints."""
    engines = {
        engine: {
            "schemes": {name: component.scheme for name, component in made.draft.components.components.items()},
            "parity": {stage.stage: stage.difference for stage in made.parity.stages},
        }
        for engine, made in exported.made.items()
    }
    return {
        "path": os.fspath(exported.path),
        "bytes": exported.path.stat().st_size,
        "engines": engines,
        "quality": exported.manifest.quality,
        "weights": {"source": exported.manifest.weights.source, "licence": exported.manifest.weights.licence},
    }
