"""Resident memory of this process, split into what files back and what is its own, over time."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from alm_bench.results.records import Resident

STATUS = Path("/proc/self/status")
EVERY_S = 0.02
"""Wall-clock time between two samples."""
MOST_SAMPLES = 120
"""Samples kept for a plot."""


def resident(started: float) -> Resident:
    """Memory now; `started` is the `time.perf_counter()` that counts as 0."""
    amounts = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    file_kb, shared_kb, own_kb = (int(amounts[name].split()[0]) for name in ("RssFile", "RssShmem", "RssAnon"))
    return Resident(time.perf_counter() - started, (file_kb + shared_kb) / 1024, own_kb / 1024)


def highest_mb() -> float:
    """The most that was ever resident in this process."""
    lines = STATUS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


class Sampler:
    """Samples memory on a thread between `with` and its end."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        """What counts as 0."""
        self.samples: list[Resident] = [resident(self.started)]
        """So far, in order."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        self.samples.append(resident(self.started))

    def look(self) -> Resident:
        """Take a sample now and return it."""
        self.samples.append(resident(self.started))
        return self.samples[-1]

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            self.look()


def thinned(samples: list[Resident]) -> tuple[Resident, ...]:
    """At most MOST_SAMPLES of them; of neighbours the largest stays, so that no peak is lost."""
    size = -(-len(samples) // MOST_SAMPLES)
    groups = (samples[at : at + size] for at in range(0, len(samples), size))
    return tuple(max(group, key=lambda sample: sample.total_mb) for group in groups)
