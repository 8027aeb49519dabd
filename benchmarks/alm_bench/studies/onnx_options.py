"""onnxruntime's options, in turn: how fast an answer is on an idle machine, and beside a process that wants a core too.

    python -m alm_bench.studies.onnx_options PACKAGE [--rounds 3] [--threads 2]

Every measurement is a process of its own and the sides take turns, so that what else the machine does falls on all.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from alm.commands.ending import run
from alm_bench.machine.name import machine
from alm_bench.machine.residency import highest_mb
from alm_bench.measuring.processes import run_json

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKENS, LOAD = 48, 0.6
"""Tokens of an answer, and how much of a core the other process takes."""
SIDES: dict[str, tuple[dict[str, bool], bool]] = {
    "spinning": ({"spinning": True}, False),
    "no spinning": ({"spinning": False}, False),
    "spinning, busy": ({"spinning": True}, True),
    "no spinning, busy": ({"spinning": False}, True),
}
"""By name: engine options, and whether another process works at the same time."""


def main(
    package: Annotated[Path, typer.Argument(exists=True, help="A Mellow package for onnxruntime.")],
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each side.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Compute threads.")] = 2,
) -> None:
    """Measure the options in turn and print medians."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in SIDES}
    for _ in range(rounds):
        for name, (options, busy) in SIDES.items():
            command = [sys.executable, "-m", __spec__.name, "--one", str(package), str(threads), json.dumps(options)]
            with _other_process(busy):
                runs[name].append(run_json(command, threads, f"measuring {name}"))
    table = Table("options", "encode", "prefix", "tokens/s", "peak memory", title=f"{threads} threads")
    for name, results in runs.items():
        middle = {key: statistics.median(run[key] for run in results) for key in results[0]}
        times = (f"{1e3 * middle[key]:.0f} ms" for key in ("encode_s", "prefix_s"))
        table.add_row(name, *times, f"{middle['rate']:.0f}", f"{middle['peak_mb']:.0f} MB")
    console = Console(width=120)
    console.print(table)
    console.print(f"{machine()}; medians of {rounds}; busy: another process takes {LOAD} of a core", highlight=False)


def run_side(package: str, threads: int, options: dict[str, bool]) -> dict[str, float]:
    """One clip and one answer after a first one that warms up."""
    import numpy as np

    import alm
    from alm.models import Mellow

    with alm.load(package, Mellow, threads=threads, engine_options=options, verify=False) as model:
        reader, frontend = model.reader, model.info.frontend
        sound = np.random.default_rng(0).uniform(-0.1, 0.1, frontend.samples).astype(np.float32)
        for _ in range(2):
            # What is asked comes later than what was answered: threads that wait for more work have given up by then.
            time.sleep(0.1)
            started = time.perf_counter()
            tokens = model.encode(sound)["audio_tokens"]
            encoded = time.perf_counter()
            cache = reader.run_prefix((tokens, tokens))
            prefixed = time.perf_counter()
            row = reader.decoder.embed(np.array([5], dtype=np.int64))
            for _ in range(TOKENS):
                cache.append(row)
            ended = time.perf_counter()
    times = {"encode_s": encoded - started, "prefix_s": prefixed - encoded}
    return times | {"rate": TOKENS / (ended - prefixed), "peak_mb": highest_mb()}


@contextmanager
def _other_process(wanted: bool) -> Iterator[None]:
    """A process that works for six of every ten milliseconds, while the block runs."""
    if not wanted:
        yield
        return
    process = subprocess.Popen([sys.executable, "-m", __spec__.name, "--busy", str(os.getpid())])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def work(parent: int) -> None:
    """Take LOAD of a core for as long as the parent lives."""
    while os.getppid() == parent:
        until = time.perf_counter() + LOAD / 100
        while time.perf_counter() < until:
            pass
        time.sleep((1 - LOAD) / 100)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        path, count, chosen = sys.argv[2:]
        print(json.dumps(run_side(path, int(count), json.loads(chosen))))
    elif sys.argv[1:2] == ["--busy"]:
        work(int(sys.argv[2]))
    else:
        run(lambda: typer.run(main), "onnx_options")
