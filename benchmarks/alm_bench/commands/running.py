"""`alm-bench run`: speed, memory and energy of a package, here or on another device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from alm_bench.commands.output import parse_threads, show, under_way

PackageFile = Annotated[Path, typer.Argument(metavar="PACKAGE", help="An .alm package.", show_default=False)]
Threads = Annotated[str, typer.Option(help="Compute threads, or several to sweep: 1,2,4.")]
CacheOption = Annotated[
    Literal["warm", "cold", "both"], typer.Option(help="Whether the file is in memory before it is loaded.")
]
Rounds = Annotated[int, typer.Option(min=1, help="Readings of each setting; medians are shown.")]
Sounds = Annotated[int, typer.Option(min=0, help="Sounds played in real time, 6 s each; 0 leaves streaming out.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", dir_okay=False, help="Result file to write, JSON.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DeviceOption = Annotated[
    str, typer.Option(help="local, ssh:USER@HOST, adb:SERIAL or qemu:PROCESSOR such as qemu:cortex-a76.")
]


def run(
    package: PackageFile,
    device: DeviceOption = "local",
    threads: Threads = "1",
    cache: CacheOption = "both",
    rounds: Rounds = 9,
    sounds: Sounds = 2,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Measure a package: every stage, memory, streaming and energy, with the noise of the machine."""
    from alm_bench.devices import find_device
    from alm_bench.measuring.sweep import Plan

    caches = ("warm", "cold") if cache == "both" else (cache,)
    plan = Plan(threads=parse_threads(threads), caches=caches, rounds=rounds, sounds=sounds)
    with find_device(device) as found, under_way() as report:
        result = found.measure([package], plan, report)
    show(result, output, as_json)
