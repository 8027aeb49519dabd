"""Energy of the work, from whatever meter this device has."""

from __future__ import annotations

import time
from collections.abc import Callable

from alm_bench.energy import battery, pmic, rapl
from alm_bench.energy.meter import Meter, NoMeter
from alm_bench.results.records import Energy

METERS: dict[str, Callable[[], Meter]] = {
    "RAPL": rapl.find,
    "Raspberry Pi 5 PMIC": pmic.find,
    "battery": battery.find,
}
"""Each finds its meter on this device, or raises NoMeter with the reason."""

IDLE_S, WORK_S = 5, 20
"""Seconds for which idle power and answering are measured."""


def measure_energy(work: Callable[[int], int]) -> Energy:
    """Energy of `work(seconds)`, which goes on for so long and returns how often; says so where no meter is."""
    reasons = []
    for name, find in METERS.items():
        try:
            meter = find()
            idle_watts, _, _ = _power(meter, lambda: time.sleep(IDLE_S))
            busy_watts, seconds, passes = _power(meter, lambda: work(WORK_S))
        except NoMeter as reason:
            reasons.append(f"{name}: {reason}")
            continue
        above = max(0.0, (busy_watts - idle_watts) * seconds)
        return Energy(name, above / passes, idle_watts, busy_watts, passes)
    return Energy("not available: " + "; ".join(reasons))


def _power(meter: Meter, work: Callable[[], int | None]) -> tuple[float, float, int]:
    """Watts and seconds of some work, and what it returned."""
    started = time.monotonic()
    with meter:
        done = work()
        seconds = time.monotonic() - started
        joules = meter.joules()
    return joules / seconds, seconds, done or 1
