"""A machine reached over ssh: the SDK and the package are copied there, and Python is all it needs to have."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from alm_bench.devices.device import Device
from alm_bench.devices.site import ASK, Far, make_site
from alm_bench.measuring import remote
from alm_bench.measuring.processes import LONGEST_S
from alm_bench.measuring.sweep import Plan
from alm_bench.results.records import BenchError, Result

OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=10")
"""Never ask for a password, and give up on a host that does not answer. All else is the user's own ssh_config."""


class Ssh(Device):
    """One host, as ssh knows it."""

    def __init__(self, host: str) -> None:
        if host.startswith("-"):
            raise BenchError(f"ssh:{host} is not a host; expected ssh:USER@HOST")
        self._host, self._folder = host, ""

    def __enter__(self) -> Device:
        self._folder = self._run("mktemp -d /tmp/alm-bench.XXXXXX", "making a folder").strip()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._folder:
            self._run(f"rm -rf {shlex.quote(self._folder)}", "removing the folder")

    def measure(self, packages: Sequence[Path], plan: Plan, report: Callable[[str], None]) -> Result:
        where = f"ssh:{self._host}"
        report(f"{where}: asking for its Python")
        far = Far.parse(self._run(f"python3 -c {shlex.quote(ASK)}", "starting python3"), where)
        with tempfile.TemporaryDirectory() as folder:
            report(f"{where}: installing for {far.machine}, Python {far.python}")
            site = make_site(far, Path(folder))
            report(f"{where}: copying")
            self._copy(site.parent, [site.name])
        copied = []
        for number, package in enumerate(packages):
            # Names of two packages may be the same; a folder each keeps them apart and keeps their names.
            self._run(f"mkdir {shlex.quote(f'{self._folder}/{number}')}", "making a folder")
            self._copy(package.resolve().parent, [package.name], f"/{number}")
            copied.append(f"{self._folder}/{number}/{package.name}")
        report(f"{where}: measuring")
        program = shlex.join(["python3", *remote.words(where, plan, copied)])
        site_path = shlex.quote(f"{self._folder}/site")
        return remote.parse(self._run(f"PYTHONPATH={site_path} {program}", "measuring", LONGEST_S), where)

    def _copy(self, folder: Path, names: list[str], into: str = "") -> None:
        target = shlex.quote(self._folder + into)
        with subprocess.Popen(["tar", "-C", str(folder), "-cf", "-", *names], stdout=subprocess.PIPE) as packed:
            self._run(f"tar -C {target} -xf -", "copying", LONGEST_S, packed.stdout)
        if packed.returncode:
            raise BenchError(f"packing {', '.join(names)} failed with exit status {packed.returncode}")

    def _run(self, command: str, what: str, limit: int = 60, source: object = subprocess.DEVNULL) -> str:
        words = ["ssh", *OPTIONS, self._host, command]
        try:
            done = subprocess.run(words, stdin=source, capture_output=True, text=True, timeout=limit)  # type: ignore[call-overload]
        except FileNotFoundError:
            raise BenchError("there is no ssh here; on Debian: apt install openssh-client") from None
        except subprocess.TimeoutExpired:
            raise BenchError(f"ssh:{self._host}: {what} took more than {limit} s") from None
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            hint = "; is it on, and does 'ssh' to it work without a password?" if done.returncode == 255 else ""
            raise BenchError(f"ssh:{self._host}: {what} failed: {reason}{hint}")
        return str(done.stdout)
