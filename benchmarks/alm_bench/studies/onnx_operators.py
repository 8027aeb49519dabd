"""Where the time of a decoding step goes: onnxruntime's own profile of a packaged decoder, summed by operator.

    python -m alm_bench.studies.onnx_operators PACKAGE [--threads 1]

Profiling makes a step slower, small operators more than large ones: read the shares, not the times.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from alm.commands.ending import run
from alm_bench.machine.name import machine
from alm_bench.rivals.files import unzip
from alm_bench.rivals.own_runners import PREFIX, greedy, onnx_append

STEPS = 64
"""Steps that are summed, the last ones."""


def main(
    package: Annotated[Path, typer.Argument(exists=True, help="A Mellow package for onnxruntime.")],
    threads: Annotated[int, typer.Option(min=1, help="Compute threads.")] = 1,
) -> None:
    """Profile steps of the decoder and print the share of each operator."""
    shares = operators(package, threads)
    whole = sum(time for time, _ in shares.values())
    table = Table("operator", "share", "of a step", title=f"{threads} threads")
    for name, (time, calls) in sorted(shares.items(), key=lambda item: -item[1][0]):
        table.add_row(name, f"{100 * time / whole:.1f} %", f"{calls:g}")
    console = Console(width=120)
    console.print(table)
    console.print(machine(), highlight=False)


def operators(package: Path, threads: int) -> dict[str, tuple[float, float]]:
    """Microseconds and calls in a step, by operator."""
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unzip(package, folder, PREFIX + 2 * STEPS, "onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        embedding = ort.InferenceSession(folder / "token_embedding.onnx", options)
        options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
        session = ort.InferenceSession(folder / "decoder.onnx", options)
        greedy(onnx_append(session, embedding), 2 * STEPS)
        return _summed(json.loads(Path(session.end_profiling()).read_text()))


def _summed(events: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    begun = [event["ts"] for event in events if event["name"] == "model_run"][-STEPS]
    kernels = [event for event in events if event["ts"] >= begun and event["name"].endswith("_kernel_time")]
    times: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    inside = 0.0
    for event in sorted(kernels, key=lambda event: (event["ts"], -event["dur"])):
        name = event["args"]["op_name"]
        times[name] += event["dur"]
        calls[name] += 1
        # What runs inside of a branch is counted for itself.
        if event["ts"] < inside:
            times["If"] -= event["dur"]
        if name == "If":
            inside = event["ts"] + event["dur"]
    return {name: (times[name] / STEPS, calls[name] / STEPS) for name in times}


if __name__ == "__main__":
    run(lambda: typer.run(main), "onnx_operators")
