"""Whether one decoder can have the first token of 8-bit weights and the decoding rate of 4-bit ones.

    python -m alm_bench.studies.layouts [--rounds 5] [--threads 2]

8-bit weights with 8-bit activations run a long prefix faster than 4-bit blocks where the processor has no VNNI; 4-bit
blocks always decode faster, because a step reads half the bytes. Four layouts of the full-size decoder, random weights,
each in a process of its own and in turn: either alone; both loaded, keys and values handed over after the prefix; and
both with the 8-bit weights left in the mapped file, which takes no memory of its own but packs them at every run.
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
from alm_bench.machine.residency import resident
from alm_bench.measuring.processes import run_json

PREFIX, TOKENS = 389, 24
INT4, INT8 = "int4-block128", "uint8"
LAYOUTS = {
    "int4": (INT4, INT4, True),
    "int8": (INT8, INT8, True),
    "int8 prefix, int4 steps": (INT8, INT4, True),
    "the same, int8 mapped": (INT8, INT4, False),
}
"""By name: scheme of the prefix, scheme of the steps, whether the weights of the prefix are prepacked at load."""


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each layout.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="Compute threads.")] = 2,
) -> None:
    """Measure the layouts in turn and print medians."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in LAYOUTS}
    with tempfile.TemporaryDirectory() as folder:
        _build(Path(folder))
        for _ in range(rounds):
            for name, results in runs.items():
                command = [sys.executable, "-m", "alm_bench.studies.layouts", "--one", name, folder, str(threads)]
                results.append(run_json(command, threads, f"measuring {name}"))
    table = Table("layout", "prefix", "tokens/s", "first token and 23 more", "memory", title=f"{threads} threads")
    for name, results in runs.items():
        middle = {key: statistics.median(run[key] for run in results) for key in results[0]}
        answer = middle["prefix_s"] + (TOKENS - 1) / middle["rate"]
        cells = (f"{1e3 * middle['prefix_s']:.0f} ms", f"{middle['rate']:.0f}", f"{1e3 * answer:.0f} ms")
        table.add_row(name, *cells, f"{middle['memory_mb']:.0f} MB")
    console = Console(width=120)
    console.print(table)
    console.print(f"{machine()}; medians of {rounds}; memory is what is not shared with a file", highlight=False)


def run_layout(name: str, folder: Path, threads: int) -> dict[str, float]:
    """Load one layout, run the prefix and the steps three times; the best of each, and the memory at the end."""
    import numpy as np

    before, (prefix_scheme, step_scheme, packed) = resident(0.0).anonymous_mb, LAYOUTS[name]
    step = _decoder(folder, step_scheme, threads, packed=True)
    prefix = step if prefix_scheme == step_scheme else _decoder(folder, prefix_scheme, threads, packed)
    rows = (0.02 * np.random.default_rng(0).standard_normal((PREFIX, step.shape.width))).astype(np.float32)
    prefix_s, rates = [], []
    for _ in range(3):
        started = time.perf_counter()
        cache = prefix.new_cache()
        cache.append(rows)
        if prefix is not step:
            cache = step.cache_from(cache.state())
        prefix_s.append(time.perf_counter() - started)
        started = time.perf_counter()
        for row in range(TOKENS):
            cache.append(rows[row : row + 1])
        rates.append(TOKENS / (time.perf_counter() - started))
    return {"prefix_s": min(prefix_s), "rate": max(rates), "memory_mb": resident(0.0).anonymous_mb - before}


def _build(folder: Path) -> None:
    """Write both decoders, each as graph and weights."""
    import torch

    from alm.package.safetensors import write_tensors
    from alm_export.components import ANSWER_ROOM
    from alm_export.graphs.decoder import build_decoder
    from alm_train.models.mellow import MellowConfig
    from alm_train.models.smollm2 import SmolLM2

    torch.manual_seed(0)
    config = MellowConfig()
    model = SmolLM2(config.decoder).eval()
    for scheme in (INT4, INT8):
        graph = build_decoder(model, config.prefix_tokens + ANSWER_ROOM, scheme, "int4-block64")
        with (folder / f"{scheme}.bin").open("wb") as file:
            slots = write_tensors(file, graph.tensors)
        places = {name: (f"{scheme}.bin", slot.offset, slot.size) for name, slot in slots.items()}
        (folder / f"{scheme}.onnx").write_bytes(graph.build(places))


def _decoder(folder: Path, scheme: str, threads: int, packed: bool) -> Any:
    import onnxruntime as ort

    from alm.engines.onnx_decoder import OnnxDecoder
    from alm.package import DecoderShape

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    if not packed:
        options.add_session_config_entry("session.disable_prepacking", "1")
    session = ort.InferenceSession(folder / f"{scheme}.onnx", options, providers=["CPUExecutionProvider"])
    past = [value.shape for value in session.get_inputs() if value.name.startswith("past_key_")]
    width = session.get_inputs()[0].shape[-1]
    _, heads, positions, head_dim = past[0]
    vocabulary = session.get_outputs()[-1].shape[-1]
    shape = DecoderShape(width, vocabulary, len(past), heads, head_dim, positions)
    return OnnxDecoder(None, session, shape)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        name, folder, threads = sys.argv[2:]
        print(json.dumps(run_layout(name, Path(folder), int(threads))))
    else:
        run(lambda: typer.run(main), "layouts")
