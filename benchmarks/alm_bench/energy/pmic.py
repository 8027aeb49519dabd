"""The power chip of a Raspberry Pi 5, which tells current and voltage of every rail it feeds.

What is not fed by it, such as USB devices and the 5 V input's own losses, is not counted.
"""

from __future__ import annotations

import re
import shutil
import subprocess

from alm_bench.energy.meter import Meter, NoMeter, PowerMeter

EVERY_S = 0.1
LINE = re.compile(r"^\s*(\w+)_([AV])\s+(?:current|volt)\(\d+\)=([\d.]+)[AV]\s*$", re.M)
"""Such as `VDD_CORE_A current(7)=1.91234000A`."""


def find() -> Meter:
    """The chip of this board; NoMeter says what stands in the way."""
    command = shutil.which("vcgencmd")
    if not command:
        raise NoMeter("there is no vcgencmd, so this is no Raspberry Pi OS")
    watts(_read(command))
    return PowerMeter(lambda: watts(_read(command)), EVERY_S)


def watts(text: str) -> float:
    """The sum over the rails of current times voltage in what `vcgencmd pmic_read_adc` says."""
    amperes, volts = {}, {}
    for rail, kind, number in LINE.findall(text):
        (amperes if kind == "A" else volts)[rail] = float(number)
    rails = amperes.keys() & volts.keys()
    if not rails:
        raise NoMeter("vcgencmd pmic_read_adc names no rail with current and voltage; only a Pi 5 has them")
    return sum(amperes[rail] * volts[rail] for rail in rails)


def _read(command: str) -> str:
    done = subprocess.run([command, "pmic_read_adc"], capture_output=True, text=True, timeout=10)
    if done.returncode:
        raise NoMeter(f"vcgencmd pmic_read_adc failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout
