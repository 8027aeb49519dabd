"""A phone reached over adb. Android has no Python and no glibc, so an arm64 userland goes with the SDK.

The userland is the one that `tests/arm64/setup.sh` makes; its own loader starts it from a folder under
/data/local/tmp, where adb's shell may run programs. No phone has been measured with this yet: up to the device's
own answer it is tested against the real adb, behind that against nothing.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from alm_bench.devices.device import Device
from alm_bench.devices.site import Far, make_site
from alm_bench.measuring import remote
from alm_bench.measuring.processes import LONGEST_S
from alm_bench.measuring.sweep import Plan
from alm_bench.results.records import BenchError, Result

USERLAND = Path(".arm64/root")
KEPT = ("usr/bin/python3.11", "usr/lib", "lib", "lib64", "usr/lib64")
"""What of the userland Python needs."""
HOME = "/data/local/tmp"
STATES = {
    "unauthorized": "unlock it and allow this computer",
    "offline": "reconnect it, or restart 'adb'",
    "no permissions": "the udev rules of this machine do not let you use it",
}
"""What adb calls a device that it cannot use, and what to do."""
LAUNCHER = """#!/system/bin/sh
here=${{0%/*}}
export PYTHONHOME=$here/root/usr PYTHONPATH=$here/site ALM_BENCH_PYTHON=$0 TMPDIR=$here HOME=$here
libraries=$here/root/usr/lib/aarch64-linux-gnu:$here/root/lib/aarch64-linux-gnu
exec $here/root/usr/lib/aarch64-linux-gnu/{loader} --library-path $libraries $here/root/usr/bin/python3.11 "$@"
"""
LOADER = "ld-linux-aarch64.so.1"


class Adb(Device):
    """One device by the serial that `adb devices` shows."""

    def __init__(self, serial: str) -> None:
        self._serial, self._folder = serial, ""

    def __enter__(self) -> Device:
        if not shutil.which("adb"):
            raise BenchError("there is no adb here; on Debian: apt install adb")
        self._check_state()
        abi = self._shell("getprop ro.product.cpu.abi").strip()
        if abi != "arm64-v8a":
            raise BenchError(f"adb:{self._serial} runs {abi or 'an unknown system'}, expected arm64-v8a")
        if not (USERLAND / "usr/bin/python3.11").is_file():
            raise BenchError(f"{USERLAND} holds no arm64 userland; 'make test-arm64' makes it (Debian 12, root)")
        self._folder = self._shell(f"mktemp -d {HOME}/alm-bench.XXXXXX").strip()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._folder:
            self._shell(f"rm -rf {shlex.quote(self._folder)}")

    def measure(self, packages: Sequence[Path], plan: Plan, report: Callable[[str], None]) -> Result:
        where = f"adb:{self._serial}"
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            report(f"{where}: installing")
            archive = pack(make_site(Far("aarch64", "3.11", "2.36"), folder), USERLAND, folder / "userland.tar")
            report(f"{where}: copying {archive.stat().st_size / 1e6:.0f} MB")
            self._push(archive, f"{self._folder}/userland.tar")
        self._shell(f"cd {self._folder} && tar -xf userland.tar && rm userland.tar")
        copied = []
        for number, package in enumerate(packages):
            self._shell(f"mkdir {self._folder}/{number}")
            copied.append(f"{self._folder}/{number}/{package.name}")
            self._push(package, copied[-1])
        report(f"{where}: measuring")
        program = shlex.join([f"{self._folder}/python", *remote.words(where, plan, copied)])
        return remote.parse(self._shell(program, LONGEST_S), where)

    def _check_state(self) -> None:
        listed = self._adb("devices").splitlines()[1:]
        states = dict(line.split("\t", 1) for line in listed if "\t" in line)
        known = ", ".join(states) or "none"
        if self._serial not in states:
            raise BenchError(f"adb knows no device {self._serial!r}, only these: {known}. Is its USB debugging on?")
        state = states[self._serial]
        if state != "device":
            advice = next((words for name, words in STATES.items() if name in state), "adb cannot use it")
            raise BenchError(f"adb:{self._serial} is {state}: {advice}")

    def _push(self, file: Path, to: str) -> None:
        self._adb("-s", self._serial, "push", str(file), to, limit=LONGEST_S)

    def _shell(self, command: str, limit: int = 60) -> str:
        return self._adb("-s", self._serial, "shell", command, limit=limit)

    def _adb(self, *words: str, limit: int = 60) -> str:
        try:
            done = subprocess.run(["adb", *words], capture_output=True, text=True, timeout=limit)
        except subprocess.TimeoutExpired:
            raise BenchError(f"adb:{self._serial}: 'adb {words[-1][:60]}' took more than {limit} s") from None
        if done.returncode:
            reason = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[-1]
            raise BenchError(f"adb:{self._serial}: {reason}")
        return done.stdout


def pack(site: Path, userland: Path, archive: Path) -> Path:
    """One archive with the SDK, what Python needs of the userland, and the launcher of both."""
    launcher = archive.with_name("python")
    launcher.write_text(LAUNCHER.format(loader=LOADER))
    launcher.chmod(0o755)
    with tarfile.open(archive, "w") as packed:
        packed.add(launcher, "python")
        packed.add(site, "site")
        for part in KEPT:
            if (userland / part).exists() or (userland / part).is_symlink():
                packed.add(userland / part, f"root/{part}")
    return archive
