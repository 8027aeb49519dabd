"""Our package against other ways to run the same model, in turn in one run, each reading in a process of its own.

Weights are random in the official shapes and the same for all, so speed and memory are the only things this says.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from alm_bench import noise, rival_files, rival_work
from alm_bench.environment import conditions, environment
from alm_bench.measuring import TOKENS, Setting, fixed_work, joined, roofline, run_json
from alm_bench.package_facts import examine, with_cache
from alm_bench.results import BenchError, Result, Side, Work

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
    "package": Rival("this project, int4", (), rival_files.package, lambda path: examine(path)[1]),
    "authors": Rival(
        "the authors' way: PyTorch float32, no KV cache", ("torch",), rival_files.nothing, rival_work.no_cache
    ),
    "transformers": Rival(
        "Hugging Face transformers, float32, KV cache",
        ("torch", "transformers"),
        rival_files.huggingface,
        rival_work.float32,
    ),
    "llama.cpp": Rival("llama.cpp, decoder alone, Q4_0", ("llama_cpp", "gguf"), rival_files.gguf, rival_work.gguf),
    "executorch": Rival(
        "ExecuTorch's own runtime, decoder alone, 8da4w",
        ("executorch", "torch"),
        rival_files.executorch,
        rival_work.executorch,
    ),
    "onnxruntime-genai": Rival(
        "onnxruntime-genai's own builder and generator, decoder alone, int4",
        ("onnxruntime_genai", "transformers"),
        rival_files.genai,
        rival_work.genai,
    ),
    "onnx-naive": Rival(
        "torch.onnx export in onnxruntime, decoder alone, float32, no KV cache",
        ("torch", "transformers", "onnxscript"),
        rival_files.naive_onnx,
        rival_work.no_cache,
    ),
}
"""By the name that `alm_bench.rival_runs` knows."""


def measure_rivals(
    names: list[str], folder: Path, threads: tuple[int, ...], rounds: int, report: Callable[[str], None]
) -> Result:
    """All rivals that can run here, and why the others cannot. BenchError when our own package cannot."""
    made, absent = _prepared(names, folder, report)
    before, steady, others = conditions(), fixed_work(max(threads)), noise.Others()
    limits = tuple(roofline(count) for count in threads)
    settings = [(name, Setting(path, count, "warm")) for count in threads for name, path in made.items()]
    readings: dict[tuple[str, Setting], list[dict[str, Any]]] = {cell: [] for cell in settings}
    for number in range(rounds):
        for name, setting in settings:
            if name in absent:
                continue
            report(f"round {number + 1} of {rounds}: {name}, {setting.threads} threads")
            words = [name, str(setting.path), str(setting.threads), str(TOKENS)]
            command = [sys.executable, "-m", "alm_bench.rival_runs", *words]
            try:
                readings[name, setting].append(run_json(command, setting.threads, f"measuring {name}"))
            except BenchError as error:
                absent[name] = _excuse(name, error)
    sides = []
    for name, path in made.items():
        if name in absent:
            continue
        runs = tuple(joined(setting, readings[name, setting]) for key, setting in settings if key == name)
        facts = examine(path)[0] if name == OURS else None
        read = [one for key, setting in settings if key == name for one in readings[key, setting]]
        sides.append(Side(name, about(name), runs, (), facts, with_cache(RIVALS[name].work(path), read)))
    if not sides:
        raise BenchError(f"nothing was measured: {'; '.join(absent.values())}")
    judged = noise.judge(steady, fixed_work(max(threads)), others.cores())
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Result(when, "local", environment(before, conditions()), judged, limits, tuple(sides), absent or None)


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


def about(name: str) -> str:
    """The rival with the versions of what it needs."""
    rival = RIVALS[name]
    owners = importlib.metadata.packages_distributions()
    packages = sorted({owners[module][0] for module in rival.needs if module in owners})
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
    return rival.about + (f" ({versions})" if versions else "")
