"""RAPL: the energy counter of x86 processors, as Linux shows it under powercap."""

from __future__ import annotations

from pathlib import Path

from alm_bench.energy.meter import Meter, NoMeter

POWERCAP = Path("/sys/class/powercap")


class Rapl(Meter):
    """The counters of all processor packages; memory that has a counter of its own outside them is added."""

    def __init__(self, zones: list[Path]) -> None:
        self._zones = zones

    def __enter__(self) -> Meter:
        self._begun = self._counts()
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def joules(self) -> float:
        total = 0
        for zone, begun, now in zip(self._zones, self._begun, self._counts(), strict=True):
            # The counter starts over at its range, within an hour at full power.
            total += now - begun if now >= begun else now - begun + int((zone / "max_energy_range_uj").read_text()) + 1
        return total / 1e6

    def _counts(self) -> list[int]:
        return [int((zone / "energy_uj").read_text()) for zone in self._zones]


def find(powercap: Path = POWERCAP) -> Meter:
    """The counters of this machine; NoMeter says what stands in the way."""
    if not powercap.is_dir():
        raise NoMeter(f"{powercap} does not exist")
    zones = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if _counts_energy(zone)]
    if not zones:
        raise NoMeter(f"{powercap} has no zone of a whole processor; a virtual machine usually has none")
    try:
        for zone in zones:
            (zone / "energy_uj").read_text()
    except PermissionError:
        raise NoMeter(f"{zones[0] / 'energy_uj'} may be read by root alone") from None
    return Rapl(zones)


def _counts_energy(zone: Path) -> bool:
    # intel-rapl:0 is a package; intel-rapl:0:1 is within it, and of those only dram is not in its count.
    name = zone / "name"
    if not (name.is_file() and (zone / "energy_uj").exists()):
        return False
    return (zone.name.count(":") == 1 and name.read_text().startswith("package")) or name.read_text().strip() == "dram"
