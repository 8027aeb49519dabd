"""A run as a JSON file and as a table."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from alm.package.atomic import atomic_write
from alm_bench.machine.name import machine
from alm_bench.quality.measures import RESAMPLES, Interval, Measure, interval
from alm_bench.quality.plan import Plan
from alm_bench.quality.run import Answered, Row
from alm_bench.quality.task_files import TaskFolder

SCHEMA = 1
"""Version of the layout of a result file."""


def as_json(
    folder: TaskFolder,
    plan: Plan,
    answered: Sequence[Answered],
    rows: Sequence[Row],
    without: Sequence[Measure],
    judges: dict[str, str],
) -> dict[str, Any]:
    """Plain data: what was asked of whom, what is missing, and every score with n and interval."""
    return {
        "kind": "quality",
        "schema": SCHEMA,
        "machine": machine(),
        "interval": f"95 %, bootstrap over clips, {RESAMPLES} draws",
        "judges": judges,
        "files": folder.files,
        "ignored_files": folder.ignored,
        "examples": len(plan.items),
        "audio": {
            "named": plan.recordings,
            "missing": len(plan.missing),
            "missing_names": plan.missing,
            "examples_left_out": plan.without_audio,
        },
        "packages": [_package(package) for package in answered],
        "scores": [dataclasses.asdict(row) for row in rows],
        "without_listening": [_named(measure) for measure in without],
    }


def _package(answered: Answered) -> dict[str, Any]:
    facts = dataclasses.asdict(answered) | {"path": str(answered.path), "answers": len(answered.said)}
    del facts["said"]
    return facts


def _named(measure: Measure) -> dict[str, Any]:
    task, group, metric = measure.name
    return {"task": task, "group": group, "metric": metric, "value": dataclasses.asdict(interval(measure))}


def write_json(path: Path, results: dict[str, Any]) -> None:
    """Write the file whole or not at all."""
    with atomic_write(path) as file:
        file.write(json.dumps(results, indent=1, ensure_ascii=False).encode())


def as_table(answered: Sequence[Answered], rows: Sequence[Row]) -> Table:
    """One line per score, one column per package, and how far each further package is from the first."""
    table = Table("task", "group", "metric", "n", "clips", title="95 % intervals in brackets")
    for package in answered:
        table.add_column(f"{package.path.name} ({package.scheme})")
    for package in answered[1:]:
        table.add_column(f"{package.scheme} - {answered[0].scheme}")
    for row in rows:
        sizes = [value for value in row.values if value is not None]
        n = "/".join(dict.fromkeys(str(value.n) for value in sizes))
        clips = "/".join(dict.fromkeys(str(value.clips) for value in sizes))
        cells = [_cell(value, "") for value in row.values] + [_cell(value, "+") for value in row.differences]
        table.add_row(row.task, row.group, row.metric, n, clips, *cells)
    return table


def baseline_table(without: Sequence[Measure]) -> Table:
    """One line per score that needs no sound."""
    table = Table("task", "group", "metric", "n", "score", title="without listening")
    for measure in without:
        value = interval(measure)
        table.add_row(*measure.name, str(value.n), _cell(value, ""))
    return table


def warnings(folder: TaskFolder, plan: Plan, answered: Sequence[Answered]) -> list[str]:
    """What is not in the scores, in words."""
    said = []
    if folder.ignored:
        said.append(f"in no known format, not used: {', '.join(folder.ignored)}")
    if plan.missing:
        said.append(
            f"{len(plan.missing)} of {plan.recordings} recordings are missing, and {plan.without_audio} examples "
            f"without them; the first is {plan.missing[0]!r}"
        )
    for package in answered:
        if package.failed:
            reason, count = Counter(package.failed.values()).most_common(1)[0]
            said.append(
                f"{package.path.name}: {len(package.failed)} questions have no answer; {count} of them: {reason}"
            )
    return said


def _cell(value: Interval | None, sign: str) -> str:
    return "-" if value is None else f"{value.value:{sign}.1f} [{value.low:{sign}.1f}, {value.high:{sign}.1f}]"
