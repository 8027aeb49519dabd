"""What this machine offers to the SDK, and what stands in the way, each with advice."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from alm.engines.processor import features

PACKAGES = ("alm-edge", "numpy", "soundfile", "soxr", "tokenizers")

# CPU features that the int8 and int4 kernels look for, by machine: what /proc/cpuinfo calls it -> what we do.
FEATURES: dict[str, dict[str, str]] = {
    "aarch64": {"asimddp": "dotprod", "i8mm": "i8mm", "asimdhp": "fp16"},
    "x86_64": {"avx2": "avx2", "fma": "fma", "avx512_vnni": "avx512_vnni", "avx_vnni": "avx_vnni"},
}
TELEMETRY = "ORT_DISABLE_TELEMETRY"
LEAST_FREE_MIB = 400


@dataclass(frozen=True)
class Finding:
    """One fact about this machine."""

    name: str
    """What was looked at."""
    value: str
    """What was found."""
    advice: str = ""
    """What to do about it; empty when nothing is wrong."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.advice


def examine() -> tuple[Finding, ...]:
    """Look at versions, processor, memory, engines, microphones and environment. Changes nothing."""
    return (
        _python(),
        *(_version(name) for name in PACKAGES),
        Finding("system", f"{platform.system()} {platform.release()} {platform.machine()}"),
        _libc(),
        _features(platform.machine(), _read("/proc/cpuinfo")),
        Finding("cores", str(_cores())),
        _memory(_read("/proc/meminfo")),
        *_engines(),
        _microphones(),
        _telemetry(),
        _locale(),
        _torch(),
    )


def _python() -> Finding:
    version = platform.python_version()
    bits = 64 if sys.maxsize > 2**32 else 32
    if sys.version_info < (3, 11) or bits == 32:
        return Finding("python", f"{version}, {bits} bits", "install a 64-bit Python 3.11 to 3.13")
    return Finding("python", f"{version}, {bits} bits")


def _version(name: str) -> Finding:
    try:
        return Finding(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "not installed", f"pip install {name}")


def _libc() -> Finding:
    name, version = platform.libc_ver()
    if platform.system() == "Linux" and name != "glibc":
        advice = "onnxruntime's wheels need glibc: use Debian, Ubuntu or Raspberry Pi OS"
        return Finding("libc", name or "not glibc", advice)
    return Finding("libc", f"{name} {version}".strip() or "none")


def _cores() -> int | None:
    # Fewer than the machine has where a container or taskset says so.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _features(machine: str, cpuinfo: str) -> Finding:
    wanted = FEATURES.get({"amd64": "x86_64", "arm64": "aarch64"}.get(machine.lower(), machine.lower()))
    if wanted is None:
        known = ", ".join(sorted(FEATURES))
        return Finding("cpu features", f"unknown machine {machine}", f"packages are exported for {known}")
    if not cpuinfo:
        return Finding("cpu features", "/proc/cpuinfo is not readable here")
    common = features(cpuinfo)
    found = [ours for theirs, ours in wanted.items() if theirs in common]
    advice = ""
    if "dotprod" in wanted.values() and "dotprod" not in found:
        advice = "int8 and int4 run without dot products here (Pi 4 class): use a package exported for rpi4"
    if "avx2" in wanted.values() and "avx2" not in found:
        advice = "quantized kernels are slow without AVX2: prefer an fp32 package"
    return Finding("cpu features", ", ".join(found) or "none of " + ", ".join(wanted.values()), advice)


def _memory(meminfo: str) -> Finding:
    amounts = {line.split(":")[0]: line.split()[1] for line in meminfo.splitlines() if len(line.split()) >= 2}
    if "MemAvailable" not in amounts or "MemTotal" not in amounts:
        return Finding("memory", "/proc/meminfo is not readable here")
    total, free = (int(amounts[name]) // 1024 for name in ("MemTotal", "MemAvailable"))
    advice = f"a full-size model wants {LEAST_FREE_MIB} MiB free; close other programs"
    return Finding("memory", f"{free} MiB available of {total} MiB", advice if free < LEAST_FREE_MIB else "")


def _engines() -> list[Finding]:
    from alm.engines import ENGINES

    return [_engine(name) for name in ENGINES]


def _engine(name: str) -> Finding:
    from alm.engines import EXTRAS
    from alm.engines.versions import LIBRARIES

    title, libraries = f"engine {name}", LIBRARIES.get(name, ())
    versions = ", ".join(
        f"{library.name} {library.installed or 'not installed'} (tested {library.tested}, takes {library.range})"
        for library in libraries
    )
    installed = bool(libraries and libraries[0].installed)
    outside = [library for library in libraries if library.installed and not library.takes(library.installed)]
    if installed and outside:
        wanted = " ".join(f"'{library.name}=={library.tested}'" for library in outside)
        return Finding(title, f"found versions that are not taken; {versions}", f"pip install {wanted}")
    # In a process of its own: whatever a library does when it is loaded, the other findings are still told.
    program = f"from alm.engines import load_engine; load_engine({name!r}, None)"
    try:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(title, f"cannot be tried: {error}", "close other programs and try again")
    again = "pip install --force-reinstall --no-cache-dir "
    again += f"'{libraries[0].name}=={libraries[0].tested}'" if libraries else name
    if done.returncode < 0:
        return Finding(title, f"dies with signal {-done.returncode}; {versions}", again)
    if done.returncode > 0:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        message = last.partition(": ")[2] if last.startswith("alm.errors.") else last
        if name in EXTRAS and not installed:
            # Few packages need it, so its absence is a fact and no fault.
            return Finding(title, f"{versions}; a package that needs it: pip install '{EXTRAS[name]}'")
        return Finding(title, message, again)
    return Finding(title, f"usable; {versions}")


def _microphones() -> Finding:
    from alm.errors import DependencyError
    from alm.listening.devices import input_devices, sounddevice

    try:
        version = sounddevice().get_portaudio_version()[1]
        names = [f"{device.name}{' (default)' if device.default else ''}" for device in input_devices()]
    except DependencyError as error:
        # Most uses need no microphone, so its absence is a fact and no fault.
        return Finding("microphones", f"not usable: {error}")
    return Finding("microphones", f"{', '.join(names) or 'none found'} ({version.partition(',')[0]})")


def _telemetry() -> Finding:
    value = os.environ.get(TELEMETRY)
    unset = f"off: {TELEMETRY} is set when an engine loads"
    return Finding("engine telemetry", unset if value is None else f"{TELEMETRY}={value}")


def _locale() -> Finding:
    encoding = sys.stdout.encoding or "unknown"
    if encoding.lower().replace("-", "") != "utf8":
        return Finding("output encoding", encoding, "set PYTHONUTF8=1 to see answers beyond ASCII")
    return Finding("output encoding", encoding)


def _torch() -> Finding:
    present = importlib.util.find_spec("torch") is not None
    return Finding("torch", "installed, not used by the SDK" if present else "not installed, not needed")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
