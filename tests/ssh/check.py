"""A measurement over ssh against a real sshd on loopback, with nothing on the far side but Python.

pytest tests/ssh/check.py      # needs openssh-server and openssh-client, and an index or cache that pip can read
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alm_bench.commands import app
from alm_bench.devices import find_device
from alm_bench.measuring.sweep import Plan
from alm_bench.results.files import read_result
from alm_bench.results.records import BenchError

SSHD = "/usr/sbin/sshd"
pytestmark = pytest.mark.skipif(
    not (Path(SSHD).exists() and shutil.which("ssh")), reason="needs openssh-server and openssh-client"
)
FAST = Plan(threads=(1,), caches=("warm",), rounds=1, sounds=0, energy=False, tokens=4)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A name that the real ssh client resolves to an sshd of our own, whose login shell sees a bare python3."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    (tmp_path / "authorized").write_bytes((tmp_path / "user.pub").read_bytes())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Not the interpreter of the tests: the far side has neither the SDK nor numpy.
    far = tmp_path / "far"
    far.mkdir()
    python = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    (far / "python3").write_text(f'#!/bin/sh\nexec env -u PYTHONHOME {python} -S "$@"\n')
    (far / "python3").chmod(0o755)
    settings = (
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/authorized\n"
        f"PidFile {tmp_path}/pid\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n"
        f"SetEnv PATH={far}:/usr/bin:/bin\n"
    )
    (tmp_path / "sshd_config").write_text(settings)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", tmp_path / "sshd_config"], stderr=(tmp_path / "log").open("wb"))
    (tmp_path / "ssh_config").write_text(
        f"Host board\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n  IdentityFile {tmp_path}/user\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {tmp_path}/known\n  StrictHostKeyChecking accept-new\n"
    )
    # ssh reads its configuration from the account's home, whatever HOME says; this names another, and is ssh itself.
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {tmp_path}/ssh_config "$@"\n')
    (bin_folder / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")
    _await(port)
    yield "board"
    server.terminate()
    server.wait(10)


def _await(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("sshd does not listen")


def left_behind() -> set[Path]:
    return set(Path("/tmp").glob("alm-bench.*"))


def test_a_package_is_measured_on_the_far_side(host: str, tiny_package: Path) -> None:
    before = left_behind()
    with find_device(f"ssh:{host}") as device:
        result = device.measure([tiny_package], FAST, lambda words: None)
    assert result.device == "ssh:board"
    (side,) = result.sides
    assert side.name == tiny_package.stem
    assert all(reading > 0 for readings in side.runs[0].stages.values() for reading in readings)
    assert result.environment.versions["alm-edge"]
    assert left_behind() == before


def test_the_command_writes_the_result(host: str, tiny_package: Path, tmp_path: Path) -> None:
    words = ["run", str(tiny_package), "--device", f"ssh:{host}", "--rounds", "1", "--cache", "cold", "--sounds", "0"]
    done = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "result.json")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert read_result(tmp_path / "result.json").sides[0].runs[0].cache == "cold"


def test_what_fails_there_is_said_here(host: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.alm"
    broken.write_bytes(b"no package")
    with pytest.raises(BenchError, match=r"ssh:board: .*broken\.alm"), find_device(f"ssh:{host}") as device:
        device.measure([broken], FAST, lambda words: None)


def test_a_host_that_does_not_answer() -> None:
    with pytest.raises(BenchError, match="is it on, and does 'ssh' to it work"), find_device("ssh:127.0.0.2"):
        pass
