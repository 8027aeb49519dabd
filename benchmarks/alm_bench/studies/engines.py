"""The decoder of each engine, through the SDK and through the engine's own runner, in turn, as ratios.

    python -m alm_bench.studies.engines PACKAGE... [--rounds 3] [--threads 1 --threads 2]

Each package is one engine's, exported from the same weights, such as

    alm-export mellow --weights random --int4 --target x86_64 --engine onnxruntime -o onnxruntime.alm
    alm-export mellow --weights random --int4 --target x86_64 --engine gguf -o gguf.alm

Every measurement is a fresh process and the sides take turns in an order drawn for each of them. Ratios are medians of
those within a turn, with their quartiles. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from alm.commands.ending import run
from alm_bench.machine.name import machine
from alm_bench.measuring.processes import run_json
from alm_bench.measuring.sweep import in_turn
from alm_bench.results.records import BenchError
from alm_bench.rivals.files import unzip
from alm_bench.rivals.own_runners import PREFIX

TOKENS = 32
RIVAL = "llama.cpp"
"""The own runner that the best engine is held against."""


@dataclass(frozen=True)
class Side:
    """One thing that is measured."""

    name: str
    """As `alm_bench.studies.engine_runs` takes it: `sdk:ENGINE`, or the engine's own runner."""
    path: Path
    """The package, or the folder it was unzipped to."""


def main(
    packages: Annotated[list[Path], typer.Argument(exists=True, help="Packages of one model, one per engine.")],
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each side.")] = 3,
    threads: Annotated[list[int], typer.Option(min=1, help="Compute threads; may be given several times.")] = [1, 2],  # noqa: B006
    as_json: Annotated[bool, typer.Option("--json", help="Print every run as JSON.")] = False,
) -> None:
    """Measure every engine's decoder, in turn, and print ratios."""
    runs: dict[int, dict[str, list[dict[str, float]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        sides = _sides(packages, Path(folder))
        for count in threads:
            runs[count] = {side.name: [] for side in sides}
            for turn in range(rounds):
                for side in in_turn(sides, turn):
                    runs[count][side.name].append(_run(side, count))
    if as_json:
        print(json.dumps({"machine": machine(), "rounds": rounds, "runs": runs}, indent=1))
        return
    console = Console(width=120)
    for count, results in runs.items():
        _print(console, count, results)
    console.print(f"{machine()}; medians of {rounds}, quartiles in brackets", highlight=False)


def _sides(packages: list[Path], folder: Path) -> list[Side]:
    sides: dict[str, list[Side]] = {}
    for number, path in enumerate(packages):
        unzipped = folder / str(number)
        engine = unzip(path, unzipped, PREFIX + TOKENS)
        if engine in sides:
            raise BenchError(f"{path} is a second package for {engine}, expected one per engine")
        sides[engine] = [Side(f"sdk:{engine}", path), Side(engine, unzipped)]
    return [side for both in sides.values() for side in both]


def _run(side: Side, threads: int) -> dict[str, float]:
    words = [side.name, str(side.path), str(threads), str(TOKENS)]
    command = [sys.executable, "-m", "alm_bench.studies.engine_runs", *words]
    # OpenMP's threads are torch's within ExecuTorch only, and more than one make a prefix slower on either side.
    return run_json(command, 1, f"measuring {side.name}")


def _print(console: Console, threads: int, runs: dict[str, list[dict[str, float]]]) -> None:
    median = {
        side: {key: statistics.median(run[key] for run in results) for key in results[0]}
        for side, results in runs.items()
    }
    table = Table("decoder", "load", f"prefix of {PREFIX}", "tokens/s", "memory", title=f"{threads} threads")
    for side, result in median.items():
        engine = side.removeprefix("sdk:")
        table.add_row(
            f"SDK on {engine}" if engine != side else f"{engine}'s own runner",
            f"{result['load_s']:.2f} s",
            f"{1e3 * result['prefill_s']:.0f} ms",
            f"{result['decode_rate']:.0f}",
            f"{result['memory_mb']:.0f} MB",
        )
    console.print(table)
    for ours in (side for side in runs if side.startswith("sdk:")):
        for theirs in dict.fromkeys((ours.removeprefix("sdk:"), RIVAL)):
            if theirs in runs:
                turns = list(zip(runs[ours], runs[theirs], strict=True))
                decode = _ratio([one["decode_rate"] / other["decode_rate"] for one, other in turns])
                prefix = _ratio([other["prefill_s"] / one["prefill_s"] for one, other in turns])
                console.print(
                    f"SDK on {ours.removeprefix('sdk:')} against {theirs}'s own runner: "
                    f"decoding {decode}, prefix {prefix}",
                    highlight=False,
                )


def _ratio(turns: list[float]) -> str:
    """The median of what single turns gave, and where half of them lie."""
    if len(turns) == 1:
        return f"{turns[0]:.2f}x"
    low, middle, high = statistics.quantiles(turns, n=4, method="inclusive")
    return f"{middle:.2f}x ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    run(lambda: typer.run(main), "engines")
