"""The machine a number belongs to."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def machine() -> str:
    """Architecture, processor and cores, such as "x86_64, AMD EPYC, 2 cores"."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    return f"{platform.machine()}, {model.partition(':')[2].strip() or 'unknown processor'}, {os.cpu_count()} cores"
