"""What every meter offers: energy since its `with` began."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable


class NoMeter(Exception):
    """This device does not have the meter; the message says what is missing."""


class Meter(ABC):
    """Counts energy between `with` and its end."""

    @abstractmethod
    def __enter__(self) -> Meter: ...

    @abstractmethod
    def __exit__(self, *exc: object) -> None: ...

    @abstractmethod
    def joules(self) -> float:
        """Energy since `with` began."""


class PowerMeter(Meter):
    """A meter that tells power alone, which is sampled on a thread and summed up over time."""

    def __init__(self, watts: Callable[[], float], every_s: float) -> None:
        self._watts, self._every_s = watts, every_s

    def __enter__(self) -> Meter:
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._joules, self._last, self._at = 0.0, self._watts(), time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def joules(self) -> float:
        self._look()
        with self._lock:
            return self._joules

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self._look()

    def _look(self) -> None:
        with self._lock:
            watts, now = self._watts(), time.monotonic()
            # Power between two samples is taken to go straight from one to the other.
            self._joules += (watts + self._last) / 2 * (now - self._at)
            self._last, self._at = watts, now
