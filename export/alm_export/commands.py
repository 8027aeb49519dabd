"""The `alm-export` command."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from alm.commands.ending import run
from alm.errors import DependencyError
from alm_export.families import FAMILIES, find_exporter

if TYPE_CHECKING:
    from alm_export.pipeline import Exported, Request

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


Family = StrEnum("Family", {name: name for name in FAMILIES})  # type: ignore[misc]
"""Model families that can be exported."""


def _list_targets(wanted: bool) -> None:
    """Print every target, what it resolves to, and what that rests on."""
    if not wanted:
        return
    from alm_export.targets import TARGETS

    told: dict[str, str] = {}
    for target in TARGETS.values():
        lines = []
        for precision in target.precisions:
            ladders = target.ladders(precision, target.engine)
            lines.append(f"  --{precision:<5} " + ", ".join(f"{part} {ladder[0]}" for part, ladder in ladders.items()))
        lines += [f"  {found.machine}, {found.command}:\n    {found.figures}" for found in target.measured]
        text = "\n".join(lines)
        first = told.setdefault(text, target.name)
        print(f"{target.name}: {target.description}; engine {target.engine}")
        print(text if first == target.name else f"  as {first}")
    raise typer.Exit


@app.command()
def export(
    family: Annotated[Family, typer.Argument(help="Model family.")],
    target: Annotated[str, typer.Option(help="Device: arm64, rpi4, rpi5, android or x86_64.")] = "arm64",
    int4: Annotated[bool, typer.Option("--int4", help="4-bit decoder, 8-bit encoders (Mellow's default).")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="8 bits throughout (the others' default).")] = False,
    fp32: Annotated[bool, typer.Option("--fp32", help="No quantization.")] = False,
    scheme: Annotated[str | None, typer.Option(help="A scheme for all parts, or part=scheme,…")] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="onnxruntime, gguf, executorch, or a comma list: the first is the default.",
            show_default="the target's",
        ),
    ] = None,
    weights: Annotated[
        str, typer.Option(help="reference, random, an official checkpoint, or a path to one or a weights folder.")
    ] = "reference",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Package file to write.")] = None,
    budget: Annotated[
        float, typer.Option(min=0, max=1, help="Share of decisions that may differ from float32.")
    ] = 0.05,
    calibrate: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Folder of your recordings to measure quality on too."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="clap: labels to store, one a line."),
    ] = None,
    no_text: Annotated[bool, typer.Option("--no-text", help="clap: leave the text encoder out.")] = False,
    prompts: Annotated[
        str | None, typer.Option(help="pam: 'good;bad', or a YAML file of pairs.", show_default="the authors'")
    ] = None,
    genai: Annotated[
        bool, typer.Option("--genai", help="mellow: a folder for onnxruntime-genai when unzipped.")
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Never download.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    targets: Annotated[
        bool,
        typer.Option(
            "--targets", is_eager=True, callback=_list_targets, help="List the targets with what was measured."
        ),
    ] = False,
) -> None:
    """Turn a PyTorch checkpoint into one verified package file."""
    precisions = [name for name, chosen in (("int4", int4), ("int8", int8), ("fp32", fp32)) if chosen]
    if len(precisions) + (scheme is not None) > 1:
        raise typer.BadParameter("choose one of --int4, --int8, --fp32 and --scheme")
    _require_libraries()
    exporter = find_exporter(family)
    options = {"labels": labels, "no_text": no_text or None, "prompts": prompts, "genai": genai or None}
    options = {name: value for name, value in options.items() if value is not None}
    if foreign := [f"--{name.replace('_', '-')}" for name in options if name not in exporter.options]:
        raise typer.BadParameter(f"{family} has no option {', '.join(foreign)}")
    from alm_export.pipeline import Request, export
    from alm_export.targets import find_engines, find_target, parse_schemes

    device = find_target(target)
    engines = find_engines(engine or device.engine)
    if scheme and len(engines) > 1:
        raise typer.BadParameter("each has its own; name one engine, or choose a precision", param_hint="--scheme")
    if genai and "onnxruntime" not in engines:
        raise typer.BadParameter("the graph for it runs on onnxruntime; add that to --engine", param_hint="--genai")
    precision = (precisions or [exporter.precision])[0]
    named = "custom" if scheme else precision
    suffix = "" if engine is None or engines == (device.engine,) else f"-{engine.replace(',', '-')}"
    request = Request(
        target=device,
        scheme=named,
        ladders={
            name: parse_schemes(scheme, tuple(exporter.parts), name)
            if scheme
            else exporter.ladders(device.ladders(precision, name))
            for name in engines
        },
        weights=weights,
        output=output or Path(f"{family}-{target}-{named}{suffix}.alm"),
        budget=budget,
        recordings=calibrate,
        offline=offline,
        family=family,
        options=options,
    )
    if as_json:
        print(json.dumps(_summary(export(request)), indent=1))
        return
    console = Console()
    _print_plan(console, request)
    with _Display(console) as display:
        exported = export(request, display.report)
    _print_summary(console, exported)


def main() -> None:
    """Entry point."""
    run(app, "alm-export")


class _Display:
    """Progress bars, one per stage that has begun."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description:<24}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
        )
        self.progress = Progress(*columns, TimeElapsedColumn(), console=console)
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> _Display:
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


def _require_libraries() -> None:
    try:
        import onnx  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise DependencyError(
            f"exporting needs {error.name}, which is not installed: pip install 'alm-edge[export]'"
        ) from error


def _print_plan(console: Console, request: Request) -> None:
    console.print(f"[bold]{request.target.name}[/bold]: {request.target.description}")
    for engine, ladders in request.ladders.items():
        console.print(f"[bold]{engine}[/bold]")
        for part, ladder in ladders.items():
            more = f" (then {', '.join(ladder[1:])} if the budget asks for it)" if ladder[1:] else ""
            console.print(f"  {part:<14}{ladder[0]}{more}", highlight=False, soft_wrap=True)


def _print_summary(console: Console, exported: Exported) -> None:
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


def _summary(exported: Exported) -> dict[str, object]:
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
