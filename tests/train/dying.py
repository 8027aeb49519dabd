"""Runs that stop in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Killed(Exception):
    """Stands for the process dying."""


class Silent:
    """A reporter that can die at a step of a stage."""

    def __init__(self, die_at: tuple[str, int] | None = None) -> None:
        self.die_at = die_at

    @contextmanager
    def bar(self, name: str) -> Iterator:
        yield lambda done, total: None

    @contextmanager
    def stage(self, name: str) -> Iterator:
        def report(stage: str, done: int, total: int, metrics: dict[str, float]) -> None:
            if (stage, done) == self.die_at:
                raise Killed

        yield report
