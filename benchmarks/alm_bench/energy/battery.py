"""The battery of a phone, by what its fuel gauge counts: coarse, so that only long work shows, and unplugged only."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

from alm_bench.energy.meter import Meter, NoMeter

LINE = re.compile(r"^\s*([A-Za-z][\w ]*?): (.+?)\s*$", re.M)


@dataclass(frozen=True)
class State:
    """A battery at one moment."""

    charge_uah: int
    """Charge left in microampere-hours."""
    volts: float
    """Voltage."""
    powered: bool
    """Whether a charger, also that of the USB cable, feeds the device."""


class Battery(Meter):
    """Charge that was used, at the mean of the voltages before and after."""

    def __init__(self, command: str) -> None:
        self._command = command

    def __enter__(self) -> Meter:
        self._begun = read(self._command)
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def joules(self) -> float:
        now = read(self._command)
        if now.powered:
            raise NoMeter("a charger was connected during the measurement")
        coulombs = (self._begun.charge_uah - now.charge_uah) * 3600e-6
        return max(0.0, coulombs) * (self._begun.volts + now.volts) / 2


def find() -> Meter:
    """The battery of this device; NoMeter says what stands in the way."""
    command = shutil.which("dumpsys")
    if not command:
        raise NoMeter("there is no dumpsys, so this is no Android")
    if read(command).powered:
        raise NoMeter("the device is charging; use adb over Wi-Fi and unplug it")
    return Battery(command)


def read(command: str) -> State:
    """What `dumpsys battery` says now."""
    done = subprocess.run([command, "battery"], capture_output=True, text=True, timeout=20)
    return parse(done.stdout)


def parse(text: str) -> State:
    """A battery's state in the words of `dumpsys battery`; NoMeter where it has no charge counter."""
    fields = dict(LINE.findall(text))
    if not fields.get("Charge counter", "").lstrip("-").isdigit() or int(fields["Charge counter"]) <= 0:
        raise NoMeter("dumpsys battery tells no charge counter on this device")
    if not fields.get("voltage", "").isdigit():
        raise NoMeter("dumpsys battery tells no voltage on this device")
    powered = any(value == "true" for name, value in fields.items() if name.endswith("powered"))
    return State(int(fields["Charge counter"]), int(fields["voltage"]) / 1000, powered)
