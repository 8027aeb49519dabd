"""Where a package is measured: this machine, or another one that is reached from here."""

from __future__ import annotations

from collections.abc import Callable

from alm_bench.devices.adb import Adb
from alm_bench.devices.device import Device
from alm_bench.devices.local import Local
from alm_bench.devices.qemu import Qemu
from alm_bench.devices.ssh import Ssh
from alm_bench.results.records import BenchError

DEVICES: dict[str, Callable[[str], Device]] = {"local": Local, "ssh": Ssh, "adb": Adb, "qemu": Qemu}
"""By the word before the colon; what follows it says which one."""


def find_device(name: str) -> Device:
    """The device that `--device` names; BenchError lists the kinds. Nothing is reached yet."""
    kind, _, which = name.partition(":")
    if kind not in DEVICES or (kind == "local") == bool(which):
        raise BenchError(
            f"--device is {name!r}, expected local, ssh:USER@HOST, adb:SERIAL or qemu:PROCESSOR such as qemu:cortex-a76"
        )
    return DEVICES[kind](which)
