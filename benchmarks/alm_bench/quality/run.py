"""One run: every package answers the same questions, and the answers become scores side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import alm
from alm_bench.quality.asking import Done, Work
from alm_bench.quality.items import Item, TaskError
from alm_bench.quality.journal import Journal
from alm_bench.quality.measures import Interval, Measure, difference, interval
from alm_bench.quality.plan import Plan
from alm_bench.quality.tasks import TASKS, Task

Pool = Callable[[str, Iterable[Work]], Iterator[Done]]
"""Package and work to results: `on_processes` or `on_ray` with their places filled in."""

Progress = Callable[[int, int], None]
"""Clips done, clips in all."""

Judge = Callable[[Sequence[Item], Mapping[str, Any], Mapping[str, Path]], list[Measure]]
"""Further scores of captions: examples, answers by question, recordings by name."""


@dataclass(frozen=True)
class Answered:
    """What a package answered."""

    path: Path
    """The package."""
    sha256: str
    """Hash of the file."""
    scheme: str
    """Its scheme, for headings."""
    family: str
    """Its model family."""
    weights: str
    """Where its weights come from."""
    clips: int
    """Clips asked about."""
    resumed: int
    """How many of them an earlier run had finished."""
    said: Mapping[str, Any]
    """Answers by question."""
    failed: Mapping[str, str]
    """Why there is no answer, by question."""


@dataclass(frozen=True)
class Row:
    """One score, for every package."""

    task: str
    """Key of `TASKS`."""
    group: str
    """What of the task."""
    metric: str
    """What was computed."""
    values: tuple[Interval | None, ...]
    """By package; None where one has no such answers."""
    differences: tuple[Interval | None, ...]
    """Each further package minus the first, on the examples that both answered."""


def ask_package(
    path: Path, plan: Plan, tasks: Mapping[str, Task], journal: Journal, pool: Pool, progress: Progress
) -> Answered:
    """Let a package answer what `journal` does not have yet.

    Raises TaskError when it cannot do one of the tasks, and whatever `alm.load` raises.
    """
    with alm.load(path) as model:
        info, capabilities = model.info, model.capabilities
    for name, task in tasks.items():
        if not set(task.any_of) & set(capabilities):
            able = [other for other, known in TASKS.items() if set(known.any_of) & set(capabilities)]
            raise TaskError(
                f"{path} is a package of {info.model.family} that can {', '.join(capabilities)}, and {name} needs "
                f"{' or '.join(task.any_of)}; tasks for it: {', '.join(able) or 'none'}"
            )
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    said: dict[str, Any] = {}
    failed: dict[str, str] = {}
    todo: dict[Work, str] = {}
    clips = 0
    for work in plan.works(capabilities):
        clips += 1
        key = work.key(sha256)
        done = journal.find(key, work)
        if done is None:
            todo[work] = key
        else:
            said.update(done.said)
            failed.update(done.failed)
    resumed = clips - len(todo)
    for count, done in enumerate(pool(str(path), list(todo)), start=resumed + 1):
        journal.add(todo[done.work], done)
        said.update(done.said)
        failed.update(done.failed)
        progress(count, clips)
    return Answered(path, sha256, info.scheme, info.model.family, info.weights.source, clips, resumed, said, failed)


def score(plan: Plan, answered: Sequence[Answered], judge: Judge | None) -> list[Row]:
    """Every score of every package, and the differences to the first."""
    by_package: list[dict[tuple[str, str, str], Measure]] = []
    for package in answered:
        measures: list[Measure] = []
        for name in dict.fromkeys(item.task for item in plan.items):
            members = [item for item in plan.items if item.task == name]
            measures += TASKS[name].measures(members, package.said)
            if judge is not None and name == "caption":
                measures += judge(members, package.said, plan.paths)
        by_package.append({measure.name: measure for measure in measures})
    rows = []
    for name in dict.fromkeys(name for measures in by_package for name in measures):
        found = [measures.get(name) for measures in by_package]
        values = tuple(None if measure is None else interval(measure) for measure in found)
        rows.append(Row(*name, values, tuple(_apart(found[0], measure) for measure in found[1:])))
    return rows


def _apart(one: Measure | None, other: Measure | None) -> Interval | None:
    if one is None or other is None or not set(one.ids) & set(other.ids):
        return None
    return difference(one, other)
