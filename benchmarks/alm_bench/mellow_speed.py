"""How much faster full-size Mellow answers from a package than the authors' way of running it.

    python -m alm_bench.mellow_speed [--package mellow-random.alm] [--rounds 3] [--threads 2]

Every measurement is a fresh process; the two sides take turns, and medians are compared. The authors' way is
PyTorch float32, both clips encoded, no KV cache, logits of all positions at every step. Weights are random in
the official shapes, so speed and memory are the only things this says. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

TOKENS = 24
LLAMA_Q4_0 = {1: 77.6, 2: 106.0}
"""Tokens per second of llama.cpp Q4_0 by threads, on the machine of the recorded baseline."""
FLOAT_DECODE = {1: 38.9, 2: 46.9}
"""Tokens per second of the float32 decoder on that machine: the probe that scales its figures to this one."""


def main(
    package: Annotated[Path | None, typer.Option(exists=True, help="Full-size int4 package.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each side.")] = 3,
    threads: Annotated[int, typer.Option(min=1, max=2, help="Compute threads of both sides.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print every run as JSON.")] = False,
) -> None:
    """Compare a package with the authors' way, in turn, and print ratios."""
    with tempfile.TemporaryDirectory() as folder:
        package = package or _export("int4", Path(folder))
        sides = {
            "authors": ["alm_bench.mellow_runs", "authors"],
            "package": ["alm_bench.mellow_runs", "package", str(package)],
            "float": ["alm_bench.mellow_runs", "package", str(_export("fp32", Path(folder)))],
        }
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, arguments in sides.items():
                runs[side].append(_run(arguments, threads))
    if as_json:
        print(json.dumps({"machine": _machine(), "threads": threads, "runs": runs}, indent=1))
    else:
        _print(runs, threads, rounds)


def _export(precision: str, folder: Path) -> Path:
    path = folder / f"mellow-random-{precision}.alm"
    arguments = [
        "mellow",
        "--weights",
        "random",
        f"--{precision}",
        "--target",
        "x86_64",
        "--output",
        str(path),
        "--json",
    ]
    code = "from alm_export.commands import main; main()"
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.DEVNULL)
    return path


def _run(arguments: list[str], threads: int) -> dict[str, float]:
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", *arguments, str(threads), str(TOKENS)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _machine() -> str:
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    return f"{platform.machine()}, {model.partition(':')[2].strip() or 'unknown processor'}, {os.cpu_count()} cores"


def _print(runs: dict[str, list[dict[str, float]]], threads: int, rounds: int) -> None:
    median = {
        side: {key: statistics.median(run[key] for run in results) for key in results[0]}
        for side, results in runs.items()
    }
    ours, theirs = median["package"], median["authors"]
    llama = LLAMA_Q4_0[threads] * median["float"]["decode_rate"] / FLOAT_DECODE[threads]
    rows = [
        (f"two clips and {TOKENS} tokens", f"{ours['answer_s']:.2f} s", f"{theirs['answer_s']:.2f} s",
         f"{theirs['answer_s'] / ours['answer_s']:.1f}x faster"),
        ("peak memory above the interpreter", f"{ours['memory_mb']:.0f} MB", f"{theirs['memory_mb']:.0f} MB",
         f"{theirs['memory_mb'] / ours['memory_mb']:.1f}x less"),
        ("next question, to its first token", f"{ours['next_first_s']:.2f} s", "",
         f"{ours['next_first_s'] / ours['first_s']:.2f} of the first question's"),
        ("tokens per second", f"{ours['decode_rate']:.0f}", f"{theirs['decode_rate']:.2f}",
         f"{ours['decode_rate'] / llama:.2f}x llama.cpp Q4_0 (its recorded rate, scaled by float32 decoding)"),
        ("load", f"{ours['load_s']:.2f} s", f"{theirs['load_s']:.2f} s", ""),
    ]  # fmt: skip
    table = Table(
        "", "package, int4", "authors' way", "", title=f"Mellow, full size, random weights, {threads} threads"
    )
    for row in rows:
        table.add_row(*row)
    console = Console(width=140)
    console.print(table)
    console.print(f"{_machine()}; medians of {rounds}", highlight=False)


if __name__ == "__main__":
    typer.run(main)
