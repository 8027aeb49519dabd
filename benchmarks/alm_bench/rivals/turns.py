"""Our package against other ways to run the same model, in turn in one run, each reading in a process of its own.

Weights are random in the official shapes and the same for all, so speed and memory are the only things this says.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from alm_bench.machine import noise
from alm_bench.machine.environment import conditions, environment
from alm_bench.machine.steady import steady_rounds
from alm_bench.measuring.package_facts import examine, with_cache
from alm_bench.measuring.processes import fixed_work, roofline, run_json
from alm_bench.measuring.sweep import TOKENS, Readings, Setting, in_turn, joined, readings_of
from alm_bench.results.records import BenchError, Result, Side, Work
from alm_bench.rivals import files, work

OURS = "package"
INSTALL = "pip install 'alm-edge[rivals]'"


@dataclass(frozen=True)
class Rival:
    """One way to run the model."""

    about: str
    """What it is, for people."""
    needs: tuple[str, ...]
    """Modules without which it cannot run."""
    prepare: Callable[[Path], Path]
    """Makes what it reads in a folder, once, and returns its place."""
    work: Callable[[Path], Work | None]
    """What it does by count, from what was prepared."""


RIVALS = {
    "package": Rival("this project, int4", (), files.package, lambda path: examine(path)[1]),
    "authors": Rival("PyTorch as the authors run it, no KV cache", ("torch",), files.nothing, work.no_cache),
    "transformers": Rival(
        "Hugging Face transformers, KV cache",
        ("torch", "transformers"),
        files.huggingface,
        work.float32,
    ),
    "llama.cpp": Rival("llama.cpp, Q4_0", ("llama_cpp", "gguf"), files.gguf, work.gguf),
    "executorch": Rival(
        "ExecuTorch's own runtime, 8da4w",
        ("executorch", "torch"),
        files.executorch,
        work.executorch,
    ),
    "onnxruntime-genai": Rival(
        "onnxruntime-genai, int4",
        ("onnxruntime_genai", "transformers"),
        files.genai,
        work.genai,
    ),
    "onnx-naive": Rival(
        "torch.onnx in onnxruntime, no KV cache",
        ("torch", "transformers", "onnxscript"),
        files.naive_onnx,
        work.no_cache,
    ),
}
"""By the name that `alm_bench.rivals.runs` knows."""


def measure_rivals(
    names: list[str], folder: Path, threads: tuple[int, ...], rounds: int, report: Callable[[str], None]
) -> Result:
    """All rivals that can run here, and why the others cannot. BenchError when our own package cannot."""
    made, absent = _prepared(names, folder, report)
    before, others = conditions(), noise.Others()
    limits = tuple(roofline(count) for count in threads)
    settings = [Setting(name, path, count, "warm") for count in threads for name, path in made.items()]

    def once(number: int) -> Readings:
        told = {}
        for setting in in_turn(settings, number):
            if setting.name in absent:
                continue
            report(f"round {number} of {rounds}: {setting.name}, {setting.threads} threads")
            try:
                told[setting] = _read(setting)
            except BenchError as error:
                absent[setting.name] = _excuse(setting.name, error)
        return {setting: told[setting] for setting in settings if setting in told}

    kept, quiet_before, quiet_after = steady_rounds(rounds, once, lambda: fixed_work(max(threads)))
    sides = tuple(_side(name, made[name], kept) for name in made if name not in absent)
    if not sides:
        raise BenchError(f"nothing was measured: {'; '.join(absent.values())}")
    judged = noise.judge(quiet_before, quiet_after, others.cores())
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    here = environment(before, conditions())
    here = dataclasses.replace(here, versions=here.versions | _versions(side.name for side in sides))
    return Result(when, "local", here, judged, limits, sides, absent or None)


def _read(setting: Setting) -> dict[str, Any]:
    words = [setting.name, str(setting.path), str(setting.threads), str(TOKENS)]
    # Every rival sets its own threads. Those of OpenMP would be torch's within ExecuTorch's, which slow it.
    return run_json([sys.executable, "-m", "alm_bench.rivals.runs", *words], 1, f"measuring {setting.name}")


def _side(name: str, path: Path, rounds: Sequence[Readings]) -> Side:
    readings = readings_of(name, rounds)
    runs = tuple(joined(setting, told) for setting, told in readings.items())
    facts = examine(path)[0] if name == OURS else None
    counts = with_cache(RIVALS[name].work(path), next(iter(readings.values())))
    return Side(name, RIVALS[name].about, runs, (), facts, counts)


def _prepared(names: list[str], folder: Path, report: Callable[[str], None]) -> tuple[dict[str, Path], dict[str, str]]:
    """What each rival reads, and why some have nothing, by name."""
    made, absent = {}, {}
    for name in names:
        rival = RIVALS[name]
        if lacking := [module for module in rival.needs if find_spec(module) is None]:
            absent[name] = f"{rival.about}: not installed: {', '.join(lacking)}; {INSTALL}"
            continue
        report(f"preparing {name}")
        try:
            made[name] = rival.prepare(folder)
        except Exception as error:
            # Whatever a rival's own tools raise, the others can run.
            absent[name] = _excuse(name, error)
    if not made:
        raise BenchError(f"nothing to measure: {'; '.join(absent.values())}")
    return made, absent


def _excuse(name: str, error: Exception) -> str:
    """Why a rival has no numbers; our own package has no excuse."""
    if name == OURS:
        raise error
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return f"{RIVALS[name].about}: {reason[0]}; {INSTALL} has versions that work"


def _versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of what these rivals need."""
    owners = importlib.metadata.packages_distributions()
    needed = {owners[module][0] for name in names for module in RIVALS[name].needs if module in owners}
    return {package.replace("_", "-"): importlib.metadata.version(package) for package in sorted(needed)}
