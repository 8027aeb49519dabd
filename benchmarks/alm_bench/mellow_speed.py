"""How much faster full-size Mellow answers from a package than the authors' way of running it.

    python -m alm_bench.mellow_speed [--package mellow-random.alm] [--rounds 3] [--threads 2]

Every measurement is a fresh process; the sides take turns, and medians are compared. The authors' way is PyTorch
float32, both clips encoded, no KV cache, logits of all positions at every step. Where llama-cpp-python is installed
(`pip install 'alm-edge[gguf]'`), llama.cpp runs the same decoder as Q4_0. Weights are random in the official shapes,
so speed and memory are the only things this says. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from alm_bench.machine import machine

TOKENS = 24
Runs = dict[str, list[dict[str, float]]]
"""By side, what each of its processes measured."""


def main(
    package: Annotated[Path | None, typer.Option(exists=True, help="Full-size int4 package.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each side.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Compute threads of every side.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print every run as JSON.")] = False,
) -> None:
    """Compare a package with the authors' way, in turn, and print ratios."""
    with tempfile.TemporaryDirectory() as folder:
        package = package or _export(Path(folder))
        sides = {
            "authors": ["alm_bench.mellow_runs", "authors"],
            "package": ["alm_bench.mellow_runs", "package", str(package)],
        }
        if find_spec("llama_cpp"):
            sides["llama.cpp"] = ["alm_bench.mellow_runs", "llama_cpp", str(_export_gguf(Path(folder)))]
        runs: Runs = {side: [] for side in sides}
        for _ in range(rounds):
            for side, arguments in sides.items():
                runs[side].append(_run(arguments, threads))
    if as_json:
        print(json.dumps({"machine": machine(), "threads": threads, "runs": runs}, indent=1))
    else:
        _print(runs, threads, rounds)


def _export(folder: Path) -> Path:
    path = folder / "mellow-random-int4.alm"
    options = ["--weights", "random", "--int4", "--target", "x86_64", "--output", str(path), "--json"]
    code = "from alm_export.commands import main; main()"
    subprocess.run([sys.executable, "-c", code, "mellow", *options], check=True, stdout=subprocess.DEVNULL)
    return path


def _export_gguf(folder: Path) -> Path:
    from alm_export.llama_gguf import quantize_gguf, write_gguf
    from alm_train.checkpoints.weights import load_weights

    weights = load_weights("random")
    language = weights.model.caption_decoder.lm
    write_gguf(folder / "f32.gguf", language, weights.tokenizer, name=weights.name, stop_id=0)
    quantize_gguf(folder / "f32.gguf", folder / "q4_0.gguf", "q4_0")
    return folder / "q4_0.gguf"


def _run(arguments: list[str], threads: int) -> dict[str, float]:
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", *arguments, str(threads), str(TOKENS)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _print(runs: Runs, threads: int, rounds: int) -> None:
    median = {
        side: {key: statistics.median(run[key] for run in results) for key in results[0]}
        for side, results in runs.items()
    }
    ours, theirs, llama = median["package"], median["authors"], median.get("llama.cpp")
    against_llama = "llama.cpp is not installed"
    if llama:
        against_llama = f"{ours['decode_rate'] / llama['decode_rate']:.2f}x llama.cpp Q4_0's {llama['decode_rate']:.0f}"
    rows = [
        (f"two clips and {TOKENS} tokens", f"{ours['answer_s']:.2f} s", f"{theirs['answer_s']:.2f} s",
         f"{theirs['answer_s'] / ours['answer_s']:.1f}x faster"),
        ("peak memory above the interpreter", f"{ours['memory_mb']:.0f} MB", f"{theirs['memory_mb']:.0f} MB",
         f"{theirs['memory_mb'] / ours['memory_mb']:.1f}x less"),
        ("next question, to its first token", f"{ours['next_first_s']:.2f} s", "",
         f"{ours['next_first_s'] / ours['first_s']:.2f} of the first question's"),
        ("tokens per second", f"{ours['decode_rate']:.0f}", f"{theirs['decode_rate']:.2f}",
         against_llama),
        ("load", f"{ours['load_s']:.2f} s", f"{theirs['load_s']:.2f} s", ""),
    ]  # fmt: skip
    table = Table(
        "", "package, int4", "authors' way", "", title=f"Mellow, full size, random weights, {threads} threads"
    )
    for row in rows:
        table.add_row(*row)
    console = Console(width=140)
    console.print(table)
    console.print(f"{machine()}; medians of {rounds}", highlight=False)


if __name__ == "__main__":
    typer.run(main)
