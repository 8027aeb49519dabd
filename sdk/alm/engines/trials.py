"""What may end the process, tried in a process of its own. Verdicts are kept, so that only the first load pays."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from alm.package.atomic import atomic_write

if TYPE_CHECKING:
    from subprocess import CompletedProcess

FAULTS = {signal.SIGILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGABRT}
"""Signals that are the fault of what is tried; any other says nothing about it."""
PATIENCE = 120
"""Seconds that a trial may take. On a slow machine importing torch for executorch takes many of them."""


def run_apart(program: str, data: bytes = b"") -> CompletedProcess[bytes] | None:
    """Run a Python program with `data` as its input, importing from where this process does; None where it cannot."""
    import subprocess  # 10 ms that only the first load pays

    # A frozen program's executable is the program itself, and no Python.
    if not sys.executable or getattr(sys, "frozen", False):
        return None
    quiet = "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); "
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "ORT_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-P", "-c", quiet + program]
    try:
        return subprocess.run(command, input=data, capture_output=True, timeout=PATIENCE, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return None


def fault_of(done: CompletedProcess[bytes] | None) -> str | None:
    """Name of the signal by which what was tried ended the process; empty when the trial ran to its end, None for an
    end that says nothing about it."""
    if done is not None and -done.returncode in FAULTS:
        return signal.Signals(-done.returncode).name
    return "" if done is not None and done.returncode == 0 else None


def verdict(key: str, find: Callable[[], str | None]) -> str:
    """What is wrong with the thing of that key, empty for nothing: as it was kept, or else as `find` finds it.

    None from `find`, for what could not be found out, is taken for nothing wrong, and is not kept.
    """
    verdicts = _kept()
    if key not in verdicts:
        found = find()
        if found is None:
            return ""
        verdicts[key] = found
        _keep(verdicts)
    return verdicts[key]


def _place() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "alm-edge" / "engines.json"


def _kept() -> dict[str, str]:
    try:
        kept = json.loads(_place().read_bytes())
    except (OSError, ValueError, RuntimeError):  # the last where there is no home
        return {}
    valid = isinstance(kept, dict) and all(isinstance(value, str) for value in kept.values())
    return kept if valid else {}


def _keep(verdicts: dict[str, str]) -> None:
    """Where nothing can be written, the next process tries again."""
    try:
        _place().parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(_place()) as file:
            file.write(json.dumps(verdicts, indent=1).encode())
    except (OSError, RuntimeError):
        return
