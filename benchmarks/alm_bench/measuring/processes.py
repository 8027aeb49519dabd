"""Processes of their own that each print one line of JSON: what reads a package, and what looks at the machine."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from alm_bench.machine.roofline import kernels
from alm_bench.results.records import BenchError, Roofline

PYTHON = os.environ.get("ALM_BENCH_PYTHON", sys.executable)
"""What starts a process of its own; on a phone Python needs a launcher."""
LONGEST_S = 1800
"""No single reading takes longer, not even under emulation."""


def probe(kind: str, path: Path, threads: int, amount: int) -> dict[str, Any]:
    """What `alm_bench.measuring.probe` prints; BenchError when it ends otherwise."""
    arguments = [PYTHON, "-m", "alm_bench.measuring.probe", kind, str(path), str(threads), str(amount)]
    return run_json(arguments, threads, f"measuring {path.name}")


def run_json(arguments: Sequence[str], threads: int, what: str) -> dict[str, Any]:
    """The JSON on the last line that a process prints; BenchError with its last words when it fails."""
    try:
        done = subprocess.run(
            arguments,
            env=os.environ | {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"{what} took more than {LONGEST_S} s") from None
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise BenchError(f"{what} failed: {words[-1]}")
    value: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return value


def fixed_work(threads: int) -> tuple[float, ...]:
    """Seconds of `noise.fixed_work` now, in as many processes at a time as threads are measured: the slowest one's."""
    arguments = [PYTHON, "-m", "alm_bench.machine.noise"]
    with ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(run_json, arguments, 1, "measuring how steady this machine is") for _ in range(threads)]
        return max((tuple(one.result()["seconds"]) for one in waiting), key=statistics.median)


def roofline(threads: int) -> Roofline:
    """This machine's limits with that many threads: the most of what any kernels reach."""
    words = [PYTHON, "-m", "alm_bench.machine.roofline", str(threads)]
    told = [run_json([*words, name], threads, "measuring this machine's limits") for name in kernels()]
    return Roofline(threads, *(max(one[figure] for one in told) for figure in ("read_gbs", "gemm_gflops")))
