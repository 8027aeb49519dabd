"""Measure packages on this machine: in turn, each reading in a process of its own, with the noise around it."""

from __future__ import annotations

import datetime
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from alm.package.schema import decode
from alm_bench.energy import measure_energy
from alm_bench.machine import noise
from alm_bench.machine.environment import conditions, environment
from alm_bench.machine.page_cache import drop
from alm_bench.machine.roofline import kernels
from alm_bench.machine.steady import steady_rounds
from alm_bench.measuring.package_facts import examine, with_cache
from alm_bench.results.records import (
    BenchError,
    Energy,
    Memory,
    PackageFacts,
    Result,
    Roofline,
    Run,
    Side,
    Streaming,
    Work,
)

Cache = Literal["warm", "cold"]
Report = Callable[[str], None]
"""Told what is being measured."""

ROUNDS = 9
"""Readings of each setting: loading, which a process does once, differs by 10 % between processes."""
TOKENS = 24
"""Length of the answers that are measured."""
PYTHON = os.environ.get("ALM_BENCH_PYTHON", sys.executable)
"""What starts a process of its own; on a phone Python needs a launcher."""
LONGEST_S = 1800
"""No single reading takes longer, not even under emulation."""


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    threads: tuple[int, ...] = (1,)
    """Compute threads, swept."""
    caches: tuple[Cache, ...] = ("warm", "cold")
    """States of the page cache."""
    rounds: int = ROUNDS
    """Readings of each setting that count (`steady_rounds`)."""
    sounds: int = 2
    """Sounds played in real time; 0 leaves streaming out."""
    energy: bool = True
    """Whether to look for a meter."""
    tokens: int = TOKENS
    """Tokens of an answer."""


@dataclass(frozen=True)
class Setting:
    """One cell of the sweep."""

    name: str
    """The side it belongs to."""
    path: Path
    """The package."""
    threads: int
    """Compute threads."""
    cache: Cache
    """Whether the file is in memory before."""


Readings = dict[Setting, dict[str, Any]]
"""What the processes of one round told."""


def measure(paths: Sequence[Path], plan: Plan, report: Report, device: str = "local") -> Result:
    """Measure packages in turn. BenchError and PackageError say what cannot be measured and why."""
    packages = dict(zip(names_of(paths), paths, strict=True))
    examined = {name: examine(path) for name, path in packages.items()}
    before, others = conditions(), noise.Others()
    limits = tuple(roofline(threads) for threads in plan.threads)
    settings = [
        Setting(name, path, threads, cache)
        for threads in plan.threads
        for cache in plan.caches
        for name, path in packages.items()
    ]

    def once(number: int) -> Readings:
        told = {}
        for setting in settings:
            report(f"round {number} of {plan.rounds}: {setting.name}, {_words(setting)}")
            told[setting] = _read(setting, plan.tokens)
        return told

    rounds, quiet_before, quiet_after = steady_rounds(plan.rounds, once, lambda: fixed_work(max(plan.threads)))
    sides = []
    for name, path in packages.items():
        report(f"{name}: memory" + (", streaming and energy" if plan.sounds else ""))
        sides.append(_side(name, path, *examined[name], rounds, plan))
    used = others.cores()
    judged = noise.judge(quiet_before, quiet_after, used)
    made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Result(made, device, environment(before, conditions()), judged, limits, tuple(sides))


def _side(
    name: str, path: Path, facts: PackageFacts, work: Work | None, rounds: Sequence[Readings], plan: Plan
) -> Side:
    readings = readings_of(name, rounds)
    return Side(
        name=name,
        about=about(facts),
        runs=tuple(joined(setting, told) for setting, told in readings.items()),
        memory=tuple(_memory(path, threads, plan.tokens) for threads in plan.threads),
        package=facts,
        work=with_cache(work, next(iter(readings.values()))),
        streaming=_streaming(path, max(plan.threads), plan.sounds) if plan.sounds else None,
        energy=_energy(path, max(plan.threads)) if plan.energy else None,
    )


def readings_of(name: str, rounds: Sequence[Readings]) -> dict[Setting, list[dict[str, Any]]]:
    """What a side's processes told, by setting, over several rounds of the same settings."""
    return {setting: [told[setting] for told in rounds] for setting in rounds[0] if setting.name == name}


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


def _read(setting: Setting, tokens: int) -> dict[str, Any]:
    if setting.cache == "cold":
        drop(setting.path)
    else:
        _warm(setting.path)
    return probe("speed", setting.path, setting.threads, tokens)


def _warm(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(2**24):
            pass


def joined(setting: Setting, readings: list[dict[str, Any]]) -> Run:
    """What several processes read of one setting."""
    first = readings[0]
    stages = {name: tuple(reading["stages"][name] for reading in readings) for name in first["stages"]}
    peaks = tuple(reading["peak_mb"] for reading in readings if first["unit"] == "s")
    return Run(setting.threads, setting.cache, first["unit"], first["positions"], first["steps"], stages, peaks)


def _memory(path: Path, threads: int, tokens: int) -> Memory:
    return _decoded(Memory, probe("memory", path, threads, tokens))


def _streaming(path: Path, threads: int, sounds: int) -> Streaming | None:
    told = probe("streaming", path, threads, sounds)
    return _decoded(Streaming, told) if told else None


def _energy(path: Path, threads: int) -> Energy:
    return measure_energy(lambda seconds: int(probe("passes", path, threads, seconds)["passes"]))


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


def _decoded(kind: type, value: dict[str, Any]) -> Any:
    # JSON has lists where dataclasses have tuples; the reader of results turns one into the other.
    return decode(kind, value, kind.__name__)


def names_of(paths: Sequence[Path]) -> tuple[str, ...]:
    """What tables call a file: its name, with the folder where others share it, numbered if that does not help."""
    others = set(paths)
    names = [
        path.stem
        if sum(path.stem == other.stem for other in others) == 1
        else f"{path.absolute().parent.name}/{path.stem}"
        for path in paths
    ]
    return tuple(
        name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})"
        for place, name in enumerate(names)
    )


def about(facts: PackageFacts) -> str:
    """A package in a line."""
    return f"{facts.model}, {facts.weights} weights, {facts.scheme} for {facts.target} on {facts.engine}"


def _words(setting: Setting) -> str:
    return f"{setting.threads} thread{'s' if setting.threads > 1 else ''}, {setting.cache}"
