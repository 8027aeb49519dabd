"""An emulated Arm processor that counts instructions: a cost that is the same on every run and says nothing of time.

QEMU 7.2's user-mode emulator, which Debian 12 builds with plugins, runs the SDK in the arm64 userland that
`tests/arm64/setup.sh` makes. One thread, and two rounds at most: they agree within 0.2 %.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from alm_bench.devices.device import Device
from alm_bench.devices.site import Far, make_site
from alm_bench.machine import noise
from alm_bench.machine.environment import LIBRARIES, environment
from alm_bench.measuring.clocks import COUNT_FILE
from alm_bench.measuring.package_facts import about, examine, with_cache
from alm_bench.measuring.processes import run_json
from alm_bench.measuring.sweep import Plan, Setting, joined, names_of, readings_of
from alm_bench.results.records import BenchError, Environment, Result, Side

PROCESSORS = {"cortex-a53": "0xd03", "cortex-a72": "0xd08", "cortex-a76": "0xd0b"}
"""Processors of Raspberry Pis (3, 4, 5) by QEMU's name, and the part number that Arm gave them."""
USERLAND = Path(".arm64/root")
MOST_ROUNDS = 2
CPUINFO = (
    "processor\t: {core}\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\n"
    "CPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: {part}\nCPU revision\t: 1\n\n"
)


class Qemu(Device):
    """One emulated processor."""

    def __init__(self, processor: str) -> None:
        if processor not in PROCESSORS:
            raise BenchError(f"qemu:{processor} is unknown; this version emulates {', '.join(PROCESSORS)}")
        self._processor = processor

    def __enter__(self) -> Device:
        for program, package in (("qemu-aarch64", "qemu-user"), ("gcc", "gcc libc6-dev")):
            if not shutil.which(program):
                raise BenchError(f"there is no {program} here; on Debian 12: apt install {package}")
        if not (USERLAND / "usr/bin/python3.11").is_file():
            raise BenchError(f"{USERLAND} holds no arm64 userland; 'make test-arm64' makes it (Debian 12, root)")
        self._made = tempfile.TemporaryDirectory(prefix="alm-bench-")
        folder = Path(self._made.name)
        self._plugin = _build_plugin(folder)
        self._root = _root(folder, self._processor)
        self._site = make_site(Far("aarch64", "3.11", "2.36"), folder)
        return self

    def __exit__(self, *exc: object) -> None:
        self._made.cleanup()

    def measure(self, packages: Sequence[Path], plan: Plan, report: Callable[[str], None]) -> Result:
        if plan.threads != (1,):
            raise BenchError("instructions are counted on one thread: use --threads 1")
        settings = [Setting(name, path, 1, "warm") for name, path in zip(names_of(packages), packages, strict=True)]
        examined = {setting.name: examine(setting.path, "aarch64") for setting in settings}
        rounds = []
        for number in range(min(plan.rounds, MOST_ROUNDS)):
            told = {}
            for setting in settings:
                report(f"round {number + 1}: {setting.name} on an emulated {self._processor}")
                told[setting] = self._count(setting.path.resolve(), plan.tokens)
            rounds.append(told)
        sides = []
        for name, (facts, work) in examined.items():
            ((setting, readings),) = readings_of(name, rounds).items()
            run = joined(setting, readings)
            sides.append(Side(name, about(facts), (run,), (), facts, with_cache(work, readings)))
        made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        # Nobody else can change a count.
        quiet = noise.Noise((), (), 0.0, ())
        return Result(made, f"qemu:{self._processor}", self._environment(), quiet, (), tuple(sides))

    def _count(self, package: Path, tokens: int) -> dict[str, Any]:
        count = Path(self._made.name, "count")
        guest = {
            "LD_LIBRARY_PATH": "/usr/lib/aarch64-linux-gnu",
            "PYTHONHOME": f"{self._root}/usr",
            "PYTHONPATH": self._site,
            "PYTHONDONTWRITEBYTECODE": 1,
            # The order of a dict of strings, and with it the work, would otherwise change from run to run.
            "PYTHONHASHSEED": 0,
            COUNT_FILE: count,
        }
        settings = [word for name, value in guest.items() for word in ("-E", f"{name}={value}")]
        plugin = ["-plugin", f"file={self._plugin},out={count}"]
        # On one core the SDK hashes entries one by one: what threads do at once is not counted whole.
        core = ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))]
        emulator = [*core, "qemu-aarch64", "-cpu", self._processor, *plugin, "-L", str(self._root), *settings]
        probe = ["-m", "alm_bench.measuring.probe", "speed", str(package), "1", str(tokens)]
        return run_json([*emulator, f"{self._root}/usr/bin/python3.11", *probe], 1, f"counting on {self._processor}")

    def _environment(self) -> Environment:
        found = importlib.metadata.distributions(path=[str(self._site)])
        versions = {item.name: item.version for item in found if item.name in LIBRARIES}
        told = subprocess.run(["qemu-aarch64", "--version"], capture_output=True, text=True, check=True).stdout
        emulator = told.splitlines()[0].removeprefix("qemu-aarch64 ")
        return dataclasses.replace(
            environment({}, {}),
            machine="aarch64",
            processor=f"{self._processor}, emulated by QEMU {emulator}",
            cores=1,
            emulated=True,
            versions=dict(sorted(versions.items())),
        )


def _build_plugin(folder: Path) -> Path:
    source, plugin = Path(__file__).with_name("count_instructions.c"), folder / "libcount.so"
    command = ["gcc", "-shared", "-fPIC", "-O2", "-o", str(plugin), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BenchError(f"gcc cannot build the plugin: {(done.stderr.splitlines() or ['no reason'])[0]}")
    return plugin


def _root(folder: Path, processor: str) -> Path:
    """The userland with a /proc/cpuinfo of the processor: QEMU 7.2 shows the host's, on which onnxruntime dies."""
    root = folder / "root"
    (root / "proc").mkdir(parents=True)
    for part in USERLAND.resolve().iterdir():
        if part.name != "proc":
            (root / part.name).symlink_to(part)
    cores = range(os.cpu_count() or 1)
    text = "".join(CPUINFO.format(core=core, part=PROCESSORS[processor]) for core in cores)
    (root / "proc/cpuinfo").write_text(text)
    return root
