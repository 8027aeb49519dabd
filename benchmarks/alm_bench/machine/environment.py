"""The machine a result belongs to: what it is, and in which state it was."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path

from alm_bench.results.records import Environment

LIBRARIES = ("alm-edge", "numpy", "onnxruntime", "tokenizers", "soundfile", "soxr", "llama-cpp-python", "executorch")
CPU = Path("/sys/devices/system/cpu/cpu0/cpufreq")
ZONES = Path("/sys/class/thermal")


def environment(before: dict[str, str], after: dict[str, str]) -> Environment:
    """This machine, with its `conditions` before and after a measurement."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return Environment(
        machine=platform.machine(),
        processor=_processor(Path("/proc/cpuinfo").read_text(errors="replace")),
        cores=len(os.sched_getaffinity(0)),
        memory_mb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20,
        system=f"{platform.system()} {platform.release()}, {' '.join(platform.libc_ver())}",
        emulated=False,
        versions=versions,
        before=before,
        after=after,
    )


def conditions() -> dict[str, str]:
    """Frequency, temperature and throttling now, as far as this device tells; empty where it tells nothing."""
    told = {}
    for name, file in (("governor", "scaling_governor"), ("frequency", "scaling_cur_freq")):
        if text := _read(CPU / file):
            told[name] = f"{int(text) / 1e6:.2f} GHz" if text.isdigit() else text
    for zone in sorted(ZONES.glob("thermal_zone*")) if ZONES.is_dir() else []:
        degrees = _read(zone / "temp")
        if degrees.lstrip("-").isdigit():
            told[f"temperature {_read(zone / 'type') or zone.name}"] = f"{int(degrees) / 1000:.1f} °C"
    if vcgencmd := shutil.which("vcgencmd"):
        done = subprocess.run([vcgencmd, "get_throttled"], capture_output=True, text=True, timeout=10)
        if done.returncode == 0:
            told["throttled"] = throttled(done.stdout)
    return told


THROTTLED = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
"""Bits of `vcgencmd get_throttled`, as Raspberry Pi documents them; 16 higher says that it happened since boot."""


def throttled(text: str) -> str:
    """What `throttled=0x50005` means in words."""
    bits = int(text.strip().partition("=")[2] or "0", 16)
    now = [name for bit, name in THROTTLED.items() if bits >> bit & 1]
    since = [f"{name} since boot" for bit, name in THROTTLED.items() if bits >> (bit + 16) & 1]
    return ", ".join(now + since) or "no"


def _processor(cpuinfo: str) -> str:
    pairs = (line.partition(":")[::2] for line in cpuinfo.splitlines())
    fields = {key.strip(): value.strip() for key, value in pairs}
    # A Raspberry Pi names its board; other arm64 machines give the part number alone.
    part = f"arm64 part {fields['CPU part']}" if "CPU part" in fields else ""
    return fields.get("model name") or fields.get("Model") or part or "unknown processor"


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
