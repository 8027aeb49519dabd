"""Measure packages on this machine: in turn, each reading in a process of its own, with the noise around it."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from alm.package.schema import decode
from alm_bench.energy import measure_energy
from alm_bench.machine import noise
from alm_bench.machine.environment import conditions, environment
from alm_bench.machine.page_cache import drop
from alm_bench.machine.steady import steady_rounds
from alm_bench.measuring.package_facts import about, examine, with_cache
from alm_bench.measuring.processes import fixed_work, probe, roofline
from alm_bench.measuring.sweep import Plan, Readings, Setting, in_turn, joined, names_of, readings_of
from alm_bench.results.records import Energy, Memory, PackageFacts, Result, Side, Streaming, Work

Report = Callable[[str], None]
"""Told what is being measured."""


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
        for setting in in_turn(settings, number):
            report(f"round {number} of {plan.rounds}: {setting.name}, {_words(setting)}")
            told[setting] = _read(setting, plan.tokens)
        return {setting: told[setting] for setting in settings}

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


def _memory(path: Path, threads: int, tokens: int) -> Memory:
    return _decoded(Memory, probe("memory", path, threads, tokens))


def _streaming(path: Path, threads: int, sounds: int) -> Streaming | None:
    told = probe("streaming", path, threads, sounds)
    return _decoded(Streaming, told) if told else None


def _energy(path: Path, threads: int) -> Energy:
    return measure_energy(lambda seconds: int(probe("passes", path, threads, seconds)["passes"]))


def _decoded(kind: type, value: dict[str, Any]) -> Any:
    # JSON has lists where dataclasses have tuples; the reader of results turns one into the other.
    return decode(kind, value, kind.__name__)


def _words(setting: Setting) -> str:
    return f"{setting.threads} thread{'s' if setting.threads > 1 else ''}, {setting.cache}"
