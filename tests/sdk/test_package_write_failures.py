"""A write that fails leaves nothing behind and an older package as it was."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import tiny_entries, tiny_manifest, write_tiny

from alm.errors import PackageError
from alm.package import Package, write_package
from alm.package.atomic import atomic_write


def only(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=["fresh", "replacing"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A place for a package, empty or taken; whatever the test does, it must look the same afterwards."""
    target = tmp_path / "out" / "tiny.alm"
    target.parent.mkdir()
    if request.param == "replacing":
        write_tiny(target)
    before = {name: (target.parent / name).read_bytes() for name in only(target.parent)}
    yield target
    assert {name: (target.parent / name).read_bytes() for name in only(target.parent)} == before


class _FailingPath(type(Path())):  # type: ignore[misc]
    """A source that breaks after some bytes."""

    error: BaseException = OSError(5, "Input/output error")

    def open(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
        error = self.error

        class Stream:
            def __init__(self) -> None:
                self.blocks = [b"x" * 70_000, b"y" * 70_000]

            def __enter__(self) -> Stream:
                return self

            def __exit__(self, *_: object) -> None: ...

            def read(self, _: int) -> bytes:
                if self.blocks:
                    return self.blocks.pop()
                raise error

        return Stream()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), SystemExit(1), RuntimeError("bug")])
def test_any_exception(path: Path, error: BaseException) -> None:
    source = _FailingPath("source")
    source.error = error
    with pytest.raises(type(error)):
        write_package(path, tiny_manifest(), tiny_entries() | {"big.bin": source})


def test_unreadable_source(path: Path, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"could not be written: .*Input/output error"):
        write_package(path, tiny_manifest(), tiny_entries() | {"big.bin": _FailingPath("source")})
    with pytest.raises(PackageError, match="No such file"):
        write_package(path, tiny_manifest(), tiny_entries() | {"big.bin": tmp_path / "missing"})


def test_file_size_limit(path: Path) -> None:
    """The kernel refuses the write in the middle, as a full disk does."""
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(PackageError, match="File too large"):
            write_package(path, tiny_manifest(), tiny_entries() | {"big.bin": bytes(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old_handler)


def test_no_space_left(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        write_tiny(disk / "small.alm")
        with pytest.raises(PackageError, match=r"No space left on device.*free some space"):
            write_package(disk / "big.alm", tiny_manifest(), tiny_entries() | {"big.bin": bytes(400_000)})
        assert only(disk) == ["small.alm"]
        Package.open(disk / "small.alm").close()
    finally:
        subprocess.run(["umount", disk], check=True)


def test_places_that_cannot_hold_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder.alm").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for place in ("folder.alm", "missing/x.alm", "file/x.alm", "x" * 300):
        with pytest.raises(PackageError, match="could not be written"):
            write_package(tmp_path / place, tiny_manifest(), tiny_entries())
    assert only(tmp_path) == ["file", "folder.alm"]


def test_ctrl_c_in_another_process(tmp_path: Path) -> None:
    """A real SIGINT while data is being copied."""
    script = textwrap.dedent(
        """
        import sys, threading
        from pathlib import Path
        from alm.package import write_package
        from tiny import tiny_entries, tiny_manifest
        write_package(sys.argv[1], tiny_manifest(), tiny_entries() | {"big.bin": Path("/dev/zero")})
        """
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    process = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "x.alm"], env=environment, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 1_000_000 for path in tmp_path.iterdir()):
        assert process.poll() is None and time.monotonic() < deadline, "the writer never started"
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, output = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in output
    assert only(tmp_path) == []


def test_umask_decides_the_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_tiny(tmp_path / "x.alm")
    finally:
        os.umask(before)
    assert (tmp_path / "x.alm").stat().st_mode & 0o777 == 0o640


def test_the_final_name_appears_only_at_the_end(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "x") as file:
        file.write(b"half")
        assert "x" not in only(tmp_path)
        file.write(b" and half")
    assert only(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() == b"half and half"
