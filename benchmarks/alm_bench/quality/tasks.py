"""The tasks by name: what is asked, and what is made of the answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alm_bench.quality import entailment, mcq, texts
from alm_bench.quality.asking import Question
from alm_bench.quality.items import Item, TaskError
from alm_bench.quality.measures import Measure


@dataclass(frozen=True)
class Task:
    """One benchmark task."""

    any_of: tuple[str, ...]
    """Capabilities of a package of which one is enough."""
    questions: Callable[[Item, Collection[str]], list[Question]]
    """What a package with these capabilities is asked about an example."""
    measures: Callable[[Sequence[Item], Mapping[str, Any]], list[Measure]]
    """Examples and answers by question, to figures."""


TASKS: dict[str, Task] = {
    "entailment": Task(("choose", "similarity"), entailment.questions, entailment.measures),
    "mcq": Task(("ask",), mcq.questions, mcq.measures),
    "caption": Task(("ask", "caption"), texts.questions, texts.measures),
    "difference": Task(("compare",), texts.questions, texts.measures),
    "detail": Task(("ask",), texts.questions, texts.measures),
}


def find_tasks(names: str) -> dict[str, Task]:
    """The tasks of a comma-separated list; TaskError for an unknown one."""
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in TASKS:
            raise TaskError(f"unknown task {name!r}; the tasks are {', '.join(TASKS)}")
    return {name: TASKS[name] for name in wanted}
