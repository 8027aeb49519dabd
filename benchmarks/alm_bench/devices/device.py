"""What every device offers: `with` reaches it and leaves nothing behind, `measure` measures packages on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

from alm_bench.measuring.sweep import Plan
from alm_bench.results.records import Result


class Device(ABC):
    """A machine to measure on."""

    def __enter__(self) -> Device:
        """Reach it. BenchError says what stands in the way."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Remove what was put there."""
        return

    @abstractmethod
    def measure(self, packages: Sequence[Path], plan: Plan, report: Callable[[str], None]) -> Result:
        """Measure packages in turn. BenchError says what failed."""
