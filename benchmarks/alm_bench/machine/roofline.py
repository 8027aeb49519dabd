"""The most this machine gives: memory read in order, and float32 matrix products.

python -m alm_bench.machine.roofline THREADS [KERNELS]     # prints one line of JSON

Products and reads are those of OpenBLAS in numpy, which takes a processor newer than itself for one of 256-bit vectors
and then multiplies at half the rate. So it is asked for its 512-bit kernels as well, and the better figure counts.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

READ_MB = 256
"""Memory that is read, far more than any cache holds."""
ROWS = 1024
"""Rows of the square matrix that each thread multiplies its share of rows with."""
ROUNDS = 7
WIDEST = "SkylakeX"
"""OpenBLAS's name of its 512-bit kernels, which any processor with AVX-512 runs."""


def kernels(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """What to ask OpenBLAS for on a processor that tells this; empty is its own choice."""
    return ("", WIDEST) if "avx512f" in cpuinfo.read_text(errors="replace").split() else ("",)


def main(threads: int, kernels: str = "") -> None:
    """Print the best of ROUNDS of each: a limit is what nothing exceeds."""
    if kernels:
        os.environ["OPENBLAS_CORETYPE"] = kernels
    # Our threads and not BLAS's, which splits a matrix product and leaves a dot product whole.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import numpy as np

    numbers = np.ones(READ_MB * 2**20 // 4, np.float32)
    matrix = np.random.default_rng(0).standard_normal((ROWS, ROWS)).astype(np.float32)
    rows, parts = np.array_split(np.tile(matrix, (threads, 1)), threads), np.array_split(numbers, threads)
    with ThreadPoolExecutor(threads) as pool:
        # The dot product of a part with itself reads each number once, and is faster than memory.
        read = _best(lambda: pool.map(lambda part: part @ part, parts))
        product = _best(lambda: pool.map(lambda part: part @ matrix, rows))
    figures = {"read_gbs": numbers.nbytes / read / 1e9, "gemm_gflops": 2 * threads * ROWS**3 / product / 1e9}
    print(json.dumps({"threads": threads, **figures}))


def _best(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        list(work())  # type: ignore[call-overload]
        seconds.append(time.perf_counter() - started)
    return min(seconds)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
