"""One example of a benchmark, whatever file it comes from."""

from __future__ import annotations

from dataclasses import dataclass

from alm.errors import AlmError


class TaskError(AlmError):
    """A task file, its audio or a run over them cannot be used."""


@dataclass(frozen=True)
class Item:
    """A question about a clip (or a pair), with what is known to be right."""

    id: str
    """File, row and, where a row has several examples, which."""
    task: str
    """Key of `alm_bench.quality.tasks.TASKS`."""
    group: str
    """What scores are reported for, such as "CLE" or "ACD-1"."""
    audio: tuple[str, ...]
    """One or two names of recordings, as the task file spells them."""
    text: str
    """The question, or the hypothesis of an entailment."""
    answers: tuple[str, ...]
    """The right answer, or reference texts."""
    split: str = "test"
    """`fit` where thresholds and probes are fitted, `test` where they are scored."""
    rule: str = ""
    """Which of a task's ways to ask and score this example takes; the task says which there are."""
    tags: tuple[str, ...] = ()
    """Further groups that it is reported in, such as "mmau music" and "mmau hard"."""
