"""`alm-bench compare`: results side by side, or packages measured in turn."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from alm.commands.output import print_rows
from alm_bench.commands.output import parse_threads, show, under_way
from alm_bench.commands.running import AsJson, DeviceOption, Output, Rounds, Threads
from alm_bench.reports.comparing import changes, exceeded, table
from alm_bench.results.files import read_result
from alm_bench.results.records import BenchError, Result


def compare(
    files: Annotated[
        list[Path], typer.Argument(metavar="A B …", help="Result files, or packages; the first is compared with.")
    ],
    within: Annotated[
        float | None, typer.Option(min=0, help="Fail when a stage differs from the first by more percent.")
    ] = None,
    device: DeviceOption = "local",
    threads: Threads = "1",
    rounds: Rounds = 9,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Show results side by side, with ratios. Packages are measured first, in turn in one run."""
    if len(files) < 2:
        raise typer.BadParameter("name at least two files")
    packages = [path for path in files if path.suffix == ".alm"]
    if twice := [str(path) for path in files if files.count(path) > 1 and path not in packages]:
        raise typer.BadParameter(f"{twice[0]} is named twice")
    if packages and len(packages) < len(files):
        raise BenchError(f"found {len(packages)} packages among {len(files)} files, expected packages or results alone")
    if packages:
        result = _measured(packages, device, threads, rounds)
        show(result, output, as_json)
        results = {side.name: dataclasses.replace(result, sides=(side,)) for side in result.sides}
    else:
        results = {str(path): read_result(path) for path in files}
    differences = changes(results)
    if not as_json:
        compared = table(results, differences)
        print(compared.title)
        print_rows(compared.rows, compared.header)
    if within is not None and (beyond := exceeded(differences, within / 100)):
        raise BenchError(f"{len(beyond)} readings differ by more than {within:g} %: {'; '.join(beyond)}")


def _measured(packages: list[Path], device: str, threads: str, rounds: int) -> Result:
    from alm_bench.devices import find_device
    from alm_bench.measuring.sweep import Plan

    plan = Plan(threads=parse_threads(threads), caches=("warm",), rounds=rounds, sounds=0, energy=False)
    with find_device(device) as found, under_way() as report:
        return found.measure(packages, plan, report)
