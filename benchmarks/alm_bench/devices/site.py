"""The SDK as a folder that another machine's Python runs as it is: our wheel, and the device install for that machine.

pip resolves it here, for the far side's Python, processor and C library, so that the far side needs no pip, no
compiler and no network.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from alm_bench.results.records import BenchError

CHECKOUT = Path(__file__).parents[3]
PARTS = ("sdk", "train", "quantize", "export", "benchmarks", "pyproject.toml", "README.md", "LICENSE", "NOTICE")
"""What of a checkout its wheel is built from."""
ASK = (
    "import platform, sys; print(platform.machine(), '%d.%d' % sys.version_info[:2], "
    "platform.libc_ver()[1] or 'none', sep='|')"
)
"""Program for the far side's Python."""


@dataclass(frozen=True)
class Far:
    """The Python of another machine."""

    machine: str
    """Architecture, such as "aarch64"."""
    python: str
    """Version, such as "3.11"."""
    glibc: str
    """Version of its C library, such as "2.36"."""

    @classmethod
    def parse(cls, told: str, where: str) -> Far:
        """From what ASK printed; BenchError when the SDK cannot run there."""
        parts = told.strip().split("|")
        if len(parts) != 3:
            raise BenchError(f"{where}: found {told.strip()!r} instead of the version of a Python")
        far = cls(*parts)
        if not (3, 11) <= tuple(map(int, far.python.split("."))) < (3, 14) or not far.glibc.startswith("2."):
            raise BenchError(
                f"{where} has Python {far.python} and glibc {far.glibc}, expected Python 3.11 to 3.13 on glibc"
            )
        return far

    @property
    def platforms(self) -> list[str]:
        """Tags of the wheels that run there, the newest first."""
        minor = int(self.glibc.split(".")[1])
        return [f"manylinux_2_{number}_{self.machine}" for number in range(minor, 16, -1)] + [
            f"manylinux2014_{self.machine}",
            "any",
        ]


def build_wheel(folder: Path) -> Path:
    """Our wheel, built from the checkout that this module is in. BenchError where it is in none."""
    if not (CHECKOUT / "pyproject.toml").is_file():
        raise BenchError(
            f"alm_bench is not in a checkout, so there is no wheel to copy; run it from one ({CHECKOUT} has no "
            "pyproject.toml)"
        )
    source = folder / "source"
    for name in PARTS:
        part = CHECKOUT / name
        # In a copy: a build leaves folders in its source.
        if part.is_dir():
            shutil.copytree(part, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
        else:
            source.mkdir(exist_ok=True)
            shutil.copy(part, source / name)
    _pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(source))
    (wheel,) = folder.glob("*.whl")
    return wheel


def make_site(far: Far, folder: Path) -> Path:
    """A folder to put on the far side's PYTHONPATH."""
    site = folder / "site"
    options = ["--target", str(site), "--no-compile", "--only-binary=:all:"]
    options += ["--python-version", far.python, "--implementation", "cp"]
    options += ["--abi", f"cp{far.python.replace('.', '')}", "--abi", "abi3", "--abi", "none"]
    for tag in far.platforms:
        options += ["--platform", tag]
    _pip("install", *options, *_constraints(), str(build_wheel(folder)))
    return site


def _constraints() -> list[str]:
    path = CHECKOUT / "constraints.txt"
    return ["--constraint", str(path)] if path.is_file() else []


def _pip(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", words[0], "--quiet", *words[1:]], capture_output=True, text=True
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason"])[-1]
        raise BenchError(f"pip {words[0]} failed: {reason}")
