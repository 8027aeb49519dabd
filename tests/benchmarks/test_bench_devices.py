"""Devices that cannot be reached say so in one line, and what is sent to one that can is what it needs."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest
from benchmarks.made import made_result

from alm_bench.devices import find_device
from alm_bench.devices.adb import pack
from alm_bench.devices.site import Far
from alm_bench.measuring import remote
from alm_bench.measuring.clocks import instructions
from alm_bench.measuring.sweep import Plan
from alm_bench.results.records import BenchError


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize("name", ["phone", "local:x", "ssh", "adb", "usb:1", ""])
def test_unknown_devices(name: str) -> None:
    # The last word of a known kind without its device is refused by the kind itself.
    with pytest.raises(BenchError, match="expected"), find_device(name):
        pass


def test_hosts_that_are_options() -> None:
    with pytest.raises(BenchError, match="is not a host"):
        find_device("ssh:-oProxyCommand=reboot")


@pytest.mark.parametrize("device", ["ssh:board", "adb:123", "qemu:cortex-a76"])
def test_missing_programs(device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchError, match=r"there is no .* here; on Debian"), find_device(device):
        pass


@pytest.mark.skipif(not shutil.which("ssh"), reason="needs an ssh client")
def test_an_unreachable_host() -> None:
    with pytest.raises(BenchError, match=r"ssh:.*: making a folder failed: "), find_device("ssh:no-such-host.invalid"):
        pass


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("", "knows no device '123', only these: none"),
        ("456\\tdevice\\n", "knows no device '123', only these: 456"),
        ("123\\tunauthorized\\n", "is unauthorized: unlock it and allow this computer"),
        ("123\\toffline\\n", "is offline: reconnect it"),
    ],
)
def test_phones_that_cannot_be_used(listed: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "adb", f"printf 'List of devices attached\\n{listed}\\n'")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(BenchError, match=message), find_device("adb:123"):
        pass


def test_another_phone_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "case $1 in devices) printf 'List\\n123\\tdevice\\n';; *) echo armeabi-v7a;; esac"
    program(tmp_path, "adb", script)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(BenchError, match="runs armeabi-v7a, expected arm64-v8a"), find_device("adb:123"):
        pass


@pytest.mark.skipif(not shutil.which("adb"), reason="needs the real adb")
def test_the_real_adb_without_a_phone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # A port of its own, so that no server of somebody else is asked or stopped.
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "5939")
    monkeypatch.setenv("HOME", str(tmp_path))
    try:
        with pytest.raises(BenchError, match="adb knows no device 'R5CT', only these: none"), find_device("adb:R5CT"):
            pass
    finally:
        import subprocess

        subprocess.run(["adb", "kill-server"], check=True, timeout=30)


def test_what_a_phone_gets(tmp_path: Path) -> None:
    userland, site = tmp_path / "userland", tmp_path / "site"
    (userland / "usr/bin").mkdir(parents=True)
    (userland / "usr/bin/python3.11").write_text("elf")
    (userland / "usr/lib").mkdir()
    (userland / "lib").symlink_to("usr/lib")
    (userland / "var").mkdir()
    site.mkdir()
    (site / "alm.py").write_text("")
    with tarfile.open(pack(site, userland, tmp_path / "made.tar")) as archive:
        names = set(archive.getnames())
        launcher = archive.extractfile("python")
        assert launcher is not None and archive.getmember("python").mode & 0o111
        script = launcher.read().decode()
    assert {"python", "site/alm.py", "root/usr/bin/python3.11", "root/lib"} <= names
    assert not any(name.startswith("root/var") for name in names)
    assert script.startswith("#!/system/bin/sh\n") and "ALM_BENCH_PYTHON=$0" in script


def test_processors_and_userlands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BenchError, match="this version emulates cortex-a53, cortex-a72, cortex-a76"):
        find_device("qemu:pentium")
    monkeypatch.chdir(tmp_path)
    for name in ("qemu-aarch64", "gcc"):
        program(tmp_path / "bin", name, "exit 1")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(BenchError, match="holds no arm64 userland; 'make test-arm64' makes it"):
        find_device("qemu:cortex-a76").__enter__()


def test_the_far_python() -> None:
    far = Far.parse("aarch64|3.12|2.36\n", "ssh:pi")
    assert far.platforms[:2] == ["manylinux_2_36_aarch64", "manylinux_2_35_aarch64"]
    assert far.platforms[-2:] == ["manylinux2014_aarch64", "any"]
    for told in ("aarch64|3.9|2.31", "aarch64|3.14|2.36", "aarch64|3.11|none"):
        with pytest.raises(BenchError, match=r"expected Python 3\.11 to 3\.13 on glibc"):
            Far.parse(told, "ssh:pi")
    with pytest.raises(BenchError, match="instead of the version of a Python"):
        Far.parse("Welcome to this board!", "ssh:pi")


def test_what_the_far_side_prints() -> None:
    result = made_result()
    line = json.dumps(json.loads(result.to_json()))
    assert remote.parse(f"a login banner\n{line}\n", "ssh:pi") == result
    with pytest.raises(BenchError, match="ssh:pi: it broke"):
        remote.parse("FAILED it broke\n", "ssh:pi")
    with pytest.raises(BenchError, match="printed nothing"):
        remote.parse("\n", "ssh:pi")
    assert json.loads(remote.words("ssh:pi", Plan(), ["x.alm"])[3])["threads"] == [1]


def test_instructions_are_what_the_emulator_wrote(tmp_path: Path) -> None:
    (tmp_path / "count").write_bytes((123_456_789_012).to_bytes(8, "little"))
    assert instructions(tmp_path / "count") == 123_456_789_012
