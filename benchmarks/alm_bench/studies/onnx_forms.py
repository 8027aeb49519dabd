"""Forms in which a device could load the decoder, in turn: how long loading takes and how much memory it leaves taken.

    python -m alm_bench.studies.onnx_forms PACKAGE [--rounds 3]

* package: as the SDK does, the graph with its weights mapped from the package, packed anew by the kernels.
* ort: onnxruntime's own format, optimised beforehand. It is read and not mapped.
* prepacked: optimised beforehand and saved with the weights as the kernels pack them, which are then mapped.

The last two are for the processor that wrote them. Each measurement is a process of its own, with one thread.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from alm.commands.ending import run
from alm_bench.machine.name import machine
from alm_bench.machine.residency import highest_mb, resident
from alm_bench.measuring.processes import run_json
from alm_bench.rivals.files import unzip

FORMS = ("package", "ort", "prepacked")
STEPS = 16


def main(
    package: Annotated[Path, typer.Argument(exists=True, help="A Mellow package for onnxruntime.")],
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each form.")] = 3,
) -> None:
    """Write the forms, load them in turn and print medians."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in FORMS}
    with tempfile.TemporaryDirectory(dir=package.parent) as folder:
        unzip(package, Path(folder), STEPS + 1, "onnxruntime")
        _write_forms(Path(folder))
        sizes = {
            "package": sum(
                Path(folder, f"{name}.safetensors").stat().st_size for name in ("decoder", "token_embedding")
            ),
            "ort": Path(folder, "decoder.ort").stat().st_size,
            "prepacked": Path(folder, "packed.bin").stat().st_size,
        }
        for _ in range(rounds):
            for name, results in runs.items():
                command = [sys.executable, "-m", __spec__.name, "--one", name, str(package), folder]
                results.append(run_json(command, 1, f"measuring {name}"))
    table = Table("form", "file", "load", "of its own", "shared with the file", "peak", "tokens/s")
    for name, results in runs.items():
        middle = {key: statistics.median(run[key] for run in results) for key in results[0]}
        memory = (f"{middle[key]:.0f} MB" for key in ("own_mb", "file_mb", "peak_mb"))
        cells = f"{sizes[name] / 1e6:.0f} MB", f"{middle['load_s']:.2f} s", *memory, f"{middle['rate']:.0f}"
        table.add_row(name, *cells)
    console = Console(width=120)
    console.print(table)
    console.print(f"{machine()}; medians of {rounds}; memory beyond what Python and the engine take", highlight=False)


def _write_forms(folder: Path) -> None:
    import onnxruntime as ort

    for form, target in (("ort", "decoder.ort"), ("prepacked", "packed.onnx")):
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(folder / target)
        if form == "ort":
            options.add_session_config_entry("session.save_model_format", "ORT")
        else:
            options.add_session_config_entry("session.save_external_prepacked_constant_initializers", "1")
            options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "packed.bin")
            options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
        ort.InferenceSession(folder / "decoder.onnx", options, providers=["CPUExecutionProvider"])


def run_form(name: str, package: Path, folder: Path) -> dict[str, float]:
    """Load the decoder and run a few steps."""
    import numpy as np

    from alm.engines import load_engine
    from alm.package import Package, section

    engine = load_engine("onnxruntime", 1)
    with Package.open(package, verify=False) as opened:
        shape = section(opened.manifest.decoder, "decoder")
        before, started = _memory(), time.perf_counter()
        decoder = engine.load_decoder(opened) if name == "package" else _load(name, folder, shape)
        load_s = time.perf_counter() - started
        cache, row = decoder.new_cache(), np.zeros((1, shape.width), np.float32)
        cache.append(row)
        started = time.perf_counter()
        for _ in range(STEPS):
            cache.append(row)
        rate = STEPS / (time.perf_counter() - started)
        after = _memory()
    return {"load_s": load_s, "rate": rate} | {key: after[key] - before[key] for key in before}


def _load(name: str, folder: Path, shape: Any) -> Any:
    import onnxruntime as ort

    from alm.engines.onnx_decoder import OnnxDecoder

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.enable_mem_pattern, options.enable_mem_reuse = 1, False, False
    if name == "prepacked":
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(folder / "packed.onnx", options, providers=["CPUExecutionProvider"])
    else:
        session = ort.InferenceSession(folder / "decoder.ort", options, providers=["CPUExecutionProvider"])
    return OnnxDecoder(None, session, shape)


def _memory() -> dict[str, float]:
    now = resident(0.0)
    return {"own_mb": now.anonymous_mb, "file_mb": now.file_mb, "peak_mb": highest_mb()}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(run_form(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))))
    else:
        run(lambda: typer.run(main), "onnx_forms")
