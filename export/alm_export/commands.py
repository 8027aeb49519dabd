"""The `alm-export` command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from alm.commands.arguments import not_empty
from alm.commands.ending import run
from alm.errors import DependencyError
from alm_export.display import Display, print_plan, print_summary, summary
from alm_export.families import FAMILIES, find_exporter

if TYPE_CHECKING:
    from alm_export.pipeline import Exporter, Request
    from alm_export.targets import Ladders, Target

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


FamilyName = Annotated[Family, typer.Argument(metavar="FAMILY", help="Model family.")]
TargetName = Annotated[str, typer.Option(help="Device: arm64, rpi4, rpi5, android or x86_64.")]
Int4 = Annotated[bool, typer.Option("--int4", help="4-bit decoder, 8-bit encoders (Mellow's default).")]
Int8 = Annotated[bool, typer.Option("--int8", help="8 bits throughout (the others' default).")]
Fp32 = Annotated[bool, typer.Option("--fp32", help="No quantization.")]
Schemes = Annotated[str | None, typer.Option(help="A scheme for all parts, or part=scheme,…", callback=not_empty)]
EngineNames = Annotated[
    str | None,
    typer.Option(
        help="onnxruntime, gguf, executorch, or a comma list: the first is the default.",
        show_default="the target's",
        callback=not_empty,
    ),
]
WeightsName = Annotated[
    str,
    typer.Option(
        help="reference, random, an official checkpoint, or a path to one or a weights folder.", callback=not_empty
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Package file to write.", show_default="FAMILY-TARGET-PRECISION.alm"),
]
Budget = Annotated[float, typer.Option(min=0, max=1, help="Share of decisions that may differ from float32.")]
Calibrate = Annotated[
    Path | None, typer.Option(exists=True, file_okay=False, help="Folder of your recordings to measure quality on too.")
]
Labels = Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="clap: labels to store, one a line.")]
NoText = Annotated[bool, typer.Option("--no-text", help="clap: leave the text encoder out.")]
Prompts = Annotated[
    str | None,
    typer.Option(help="pam: 'good;bad', or a YAML file of pairs.", show_default="the authors'", callback=not_empty),
]
Genai = Annotated[bool, typer.Option("--genai", help="mellow: a folder for onnxruntime-genai when unzipped.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never download.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
ListTargets = Annotated[
    bool,
    typer.Option("--targets", is_eager=True, callback=_list_targets, help="List the targets with what was measured."),
]


@app.command()
def export(
    family: FamilyName,
    target: TargetName = "arm64",
    int4: Int4 = False,
    int8: Int8 = False,
    fp32: Fp32 = False,
    scheme: Schemes = None,
    engine: EngineNames = None,
    weights: WeightsName = "reference",
    output: Output = None,
    budget: Budget = 0.05,
    calibrate: Calibrate = None,
    labels: Labels = None,
    no_text: NoText = False,
    prompts: Prompts = None,
    genai: Genai = False,
    offline: Offline = False,
    as_json: AsJson = False,
    targets: ListTargets = False,
) -> None:
    """Turn a PyTorch checkpoint into one verified package file."""
    precision = _precision(scheme, int4=int4, int8=int8, fp32=fp32)
    _require_libraries()
    exporter = find_exporter(family)
    own = {"labels": labels, "no_text": no_text or None, "prompts": prompts, "genai": genai or None}
    options = _options_of(exporter, family, own)
    from alm_export.pipeline import Request
    from alm_export.targets import find_target

    device = find_target(target)
    engines = _engines(engine or device.engine, scheme, genai)
    named = "custom" if scheme else precision or exporter.precision
    suffix = "" if engine is None or engines == (device.engine,) else f"-{engine.replace(',', '-')}"
    request = Request(
        target=device,
        scheme=named,
        ladders={name: _ladders(exporter, device, name, precision, scheme) for name in engines},
        weights=weights,
        output=output or Path(f"{family}-{target}-{named}{suffix}.alm"),
        budget=budget,
        recordings=calibrate,
        offline=offline,
        family=family,
        options=options,
    )
    _run(request, as_json)


def _precision(scheme: str | None, **chosen: bool) -> str | None:
    """The one precision that was `chosen` by name; None leaves it to --scheme or to the family."""
    precisions = [name for name, wanted in chosen.items() if wanted]
    if len(precisions) + (scheme is not None) > 1:
        raise typer.BadParameter("choose one of --int4, --int8, --fp32 and --scheme")
    return precisions[0] if precisions else None


def _options_of(exporter: type[Exporter], family: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options `given` that have a value; wrong usage when the family lacks one."""
    options = {name: value for name, value in given.items() if value is not None}
    if foreign := [f"--{name.replace('_', '-')}" for name in options if name not in exporter.options]:
        raise typer.BadParameter(f"{family} has no option {', '.join(foreign)}")
    return options


def _engines(names: str, scheme: str | None, genai: bool) -> tuple[str, ...]:
    """The engines of a comma list; wrong usage when the other options do not go with them."""
    from alm_export.targets import find_engines

    engines = find_engines(names)
    if scheme and len(engines) > 1:
        raise typer.BadParameter("each has its own; name one engine, or choose a precision", param_hint="--scheme")
    if genai and "onnxruntime" not in engines:
        raise typer.BadParameter("the graph for it runs on onnxruntime; add that to --engine", param_hint="--genai")
    return engines


def _ladders(
    exporter: type[Exporter], target: Target, engine: str, precision: str | None, scheme: str | None
) -> Ladders:
    """Schemes per part on one engine: those of --scheme, else what the precision means on the target."""
    from alm_export.targets import parse_schemes

    if scheme:
        return parse_schemes(scheme, tuple(exporter.parts), engine)
    return exporter.ladders(target.ladders(precision or exporter.precision, engine))


def _require_libraries() -> None:
    try:
        import onnx  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise DependencyError(
            f"exporting needs {error.name}, which is not installed: pip install 'alm-edge[export]'"
        ) from error


def _run(request: Request, as_json: bool) -> None:
    from alm_export.pipeline import export

    if as_json:
        print(json.dumps(summary(export(request)), indent=1))
        return
    console = Console()
    print_plan(console, request)
    with Display(console) as display:
        exported = export(request, display.report)
    print_summary(console, exported)


def main() -> None:
    """Entry point."""
    run(app, "alm-export")
