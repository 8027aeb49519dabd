"""This machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from alm_bench.devices.device import Device
from alm_bench.measuring.sweep import Plan
from alm_bench.measuring.turns import measure
from alm_bench.results.records import Result


class Local(Device):
    """This machine."""

    def __init__(self, which: str = "") -> None: ...

    def measure(self, packages: Sequence[Path], plan: Plan, report: Callable[[str], None]) -> Result:
        return measure(packages, plan, report)
