"""One measurement of one package in a process of its own; prints one line of JSON. Needs the SDK alone.

python -m alm_bench.measuring.probe speed PACKAGE THREADS TOKENS
python -m alm_bench.measuring.probe memory PACKAGE THREADS TOKENS
python -m alm_bench.measuring.probe streaming PACKAGE THREADS SOUNDS
python -m alm_bench.measuring.probe passes PACKAGE THREADS SECONDS
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from alm_bench.machine.residency import Sampler, highest_mb, resident, thinned
from alm_bench.measuring.clocks import clock
from alm_bench.measuring.repeats import repeated
from alm_bench.results.records import Memory

TOKENS = 24
"""Length of the answers while a meter looks."""
REST_S = 0.3
"""Pause before memory at rest is looked at."""


def speed(package: Path, threads: int, tokens: int) -> dict[str, Any]:
    """Every stage, as `repeated` has it, and the most memory until the first pass was done. Instructions, which are
    the same every time, are counted once."""
    bare = highest_mb()
    import alm
    from alm_bench.measuring.workloads import cache_bytes, workload

    now, unit = clock()
    started = now()
    with alm.load(package, threads=threads) as model:
        load = now() - started
        run, passes, peaks = workload(model), [], []

        def once() -> dict[str, float]:
            passes.append(run(model, now, unit, tokens, len(passes)))
            return passes[-1].stages

        stages = repeated(once, lambda: peaks.append(highest_mb() - bare)) if unit == "s" else once()
        kept = cache_bytes(model)
    told = {"unit": unit, "positions": passes[0].positions, "steps": passes[0].steps, "cache_bytes": kept}
    return {**told, "stages": {"load": load, **stages}, "peak_mb": peaks[0] if peaks else highest_mb() - bare}


def memory(package: Path, threads: int, tokens: int) -> dict[str, Any]:
    """Memory of the same work, sampled on a thread: in another process than the times, which that would lengthen."""
    interpreter = resident(time.perf_counter())
    with Sampler() as sampler:
        import alm
        from alm_bench.measuring.workloads import workload

        marks = {"import": sampler.look().seconds}
        with alm.load(package, threads=threads) as model:
            marks["load"] = sampler.look().seconds
            begun = sampler.look().seconds
            done = workload(model)(model, time.perf_counter, "s", tokens)
            marks |= {"encode": begun + done.stages["encode"], "answers": sampler.look().seconds}
            time.sleep(REST_S)
            steady = sampler.look()
    peak = max(sampler.samples, key=lambda sample: sample.total_mb)
    timeline = thinned(sampler.samples)
    # The system adds up its own mark in batches and can be some pages behind.
    highest = max(highest_mb(), peak.total_mb)
    return dataclasses.asdict(Memory(threads, interpreter, steady, peak, highest, marks, timeline))


def streaming(package: Path, threads: int, sounds: int) -> dict[str, Any]:
    """Sounds in real time through `watch`."""
    import alm
    from alm_bench.measuring.streaming import streaming

    with alm.load(package, threads=threads) as model:
        # A family that has no words has nothing to say about a stream.
        return dataclasses.asdict(streaming(model, sounds, threads)) if hasattr(model, "watch") else {}


def passes(package: Path, threads: int, seconds: int) -> dict[str, Any]:
    """Pass through the stages again and again for some seconds, for a meter to look at; how often."""
    import alm
    from alm_bench.measuring.workloads import workload

    count = 0
    with alm.load(package, threads=threads, cache_bytes=0) as model:
        begun = time.monotonic()
        while time.monotonic() < begun + seconds:
            workload(model)(model, time.perf_counter, "s", TOKENS)
            count += 1
    return {"passes": count}


KINDS: dict[str, Callable[[Path, int, int], dict[str, Any]]] = {
    "speed": speed,
    "memory": memory,
    "streaming": streaming,
    "passes": passes,
}


def main(kind: str, package: str, threads: str, amount: str) -> None:
    """Measure and print."""
    assert np.__version__  # loaded before anything is measured: memory counts from Python with numpy
    print(json.dumps(KINDS[kind](Path(package), int(threads), int(amount))))


if __name__ == "__main__":
    main(*sys.argv[1:])
