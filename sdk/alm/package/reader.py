"""Open a package: check everything, map the file once, hand out views of the map."""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from numpy.typing import NDArray

from alm.closing import Closing
from alm.errors import PackageError, reason_of
from alm.package.archive import MANIFEST, Record, read_records
from alm.package.manifest import Manifest
from alm.package.safetensors import read_tensors

MAX_MANIFEST = 4 * 1024 * 1024
"""Bytes; a manifest has some kilobytes, so this bounds what parsing a hostile one can cost."""
BLOCK = 128 * 1024
"""Bytes that a thread reads at a time to hash them; with a MiB for each the peak of a loaded model was 4 MB higher."""


class Package(Closing):
    """A checked `.alm` file, mapped read-only. Safe to use from several threads.

    Views and tensors stay valid after `close()`: the map lives until the last of them is gone. Replace a
    package in use by renaming another over it, as the writer does; writing into the mapped file itself
    changes the weights of running models.
    """

    def __init__(
        self, path: Path, manifest: Manifest, records: dict[str, Record], mapped: mmap.mmap, identity: tuple[int, ...]
    ) -> None:
        self.path = path
        """Where the package was opened."""
        self.manifest = manifest
        """The checked manifest; its `components` are those of the engine that the package was opened for."""
        self._records = records
        self._map: mmap.mmap | None = mapped
        self._identity = identity
        self.fingerprint = _fingerprint(self.view(MANIFEST), manifest)
        """Of the manifest, which states the SHA-256 of every entry, and of the engine: what shares it is equal."""

    @classmethod
    def open(cls, path: str | Path, verify: bool = True, engine: str | None = None) -> Package:
        """Map and check the package at `path`, for `engine` (default: the package's first).

        Checked always: structure, names, manifest, and that it lists exactly the entries with their
        sizes. With `verify` also the SHA-256 of every entry, read in blocks so that hashing makes no
        page of the map resident. Raises PackageError naming the file, the entry and the reason, and EngineError
        for an engine that the package was not exported for.
        """
        path = Path(path)
        try:
            with _open_regular(path) as file:
                if not file.seek(0, 2):
                    raise PackageError("the file is empty, expected an .alm package")
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                identity = _identity(os.fstat(file.fileno()))
                view = memoryview(mapped)
                records = read_records(view)
                manifest = _read_manifest(view, records[MANIFEST])
                _check_entries(manifest, records)
                if verify:
                    _check_hashes(file, manifest, records)
        except PackageError as error:
            raise PackageError(f"{_printable(path)}: {error}") from None
        except (OSError, ValueError) as error:
            raise PackageError(f"{_printable(path)} cannot be read: {reason_of(error)}") from error
        return cls(path, manifest.for_engine(engine), records, mapped, identity)

    def view(self, name: str) -> memoryview:
        """The bytes of an entry as a read-only view of the map; raises PackageError for an unknown name."""
        mapped, start = self._mapped(), self.offset(name)
        return memoryview(mapped)[start : start + self._records[name].size]

    def offset(self, name: str) -> int:
        """Where the bytes of an entry start in the file; raises PackageError for an unknown name."""
        if name not in self._records:
            known = ", ".join(sorted(self._records))
            raise PackageError(f"{_printable(self.path)} has no entry {name!r}; it has {known}")
        return self._records[name].offset

    def read(self, name: str) -> bytes:
        """A copy of the bytes of an entry. The pages that it was read from are let go: it is in memory once."""
        mapped, start = self._mapped(), self.offset(name)
        end = start + self._records[name].size
        page = start - start % mmap.PAGESIZE
        data = mapped[start:end]
        if data:
            mapped.madvise(mmap.MADV_DONTNEED, page, end - page)
        return data

    def tensors(self, name: str) -> dict[str, NDArray[Any]]:
        """By name, the tensors of a safetensors entry in their stored shapes: views of the map, no byte copied.
        PackageError for an unknown or damaged entry."""
        try:
            return read_tensors(self.view(name))
        except PackageError as error:
            raise PackageError(f"{_printable(self.path)}: {name}: {error}") from None

    def in_place(self) -> bool:
        """Whether `path` still leads to the very file that was checked, and nobody has written to it since."""
        try:
            return _identity(self.path.stat()) == self._identity
        except OSError:
            return False

    def close(self) -> None:
        """Give up the map. Closing twice is allowed."""
        self._map = None

    def _mapped(self) -> mmap.mmap:
        if self._map is None:
            raise PackageError(f"{_printable(self.path)} is closed")
        return self._map


def _fingerprint(manifest: memoryview, chosen: Manifest) -> str:
    digest = hashlib.sha256(manifest)
    # Another engine computes other keys and values from the same package.
    if chosen.variants:
        digest.update(chosen.engine.encode())
    return digest.hexdigest()


def _printable(path: Path) -> str:
    return str(path).encode(errors="replace").decode()


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _open_regular(path: Path) -> BinaryIO:
    if not stat.S_ISREG(path.stat().st_mode):
        raise PackageError("this is not a regular file, expected an .alm package")
    return path.open("rb")


def _read_manifest(view: memoryview, record: Record) -> Manifest:
    if record.size > MAX_MANIFEST:
        raise PackageError(f"{MANIFEST} has {record.size} bytes, expected at most {MAX_MANIFEST}")
    data = bytes(view[record.offset : record.offset + record.size])
    # The manifest cannot state its own hash: the ZIP checksum guards it against damage, a signature
    # against intent.
    if zlib.crc32(data) != record.crc:
        raise PackageError(f"{MANIFEST} is altered: its checksum does not match; copy the package again")
    return Manifest.from_json(data)


def _check_entries(manifest: Manifest, records: dict[str, Record]) -> None:
    present = set(records) - {MANIFEST}
    if missing := sorted(set(manifest.entries) - present):
        raise PackageError(f"the manifest lists {missing[0]!r}, the package does not have it")
    if extra := sorted(present - set(manifest.entries)):
        raise PackageError(f"the package has {extra[0]!r}, the manifest does not list it")
    for name, entry in manifest.entries.items():
        if entry.size != records[name].size:
            raise PackageError(f"{name!r} has {records[name].size} bytes, the manifest says {entry.size}")
    if absent := sorted(manifest.required_entries - present):
        raise PackageError(f"the manifest needs the entry {absent[0]!r}, the package does not have it")


def _check_hashes(file: BinaryIO, manifest: Manifest, records: dict[str, Record]) -> None:
    def digest(name: str) -> str:
        found, place = hashlib.sha256(), records[name].offset
        end = place + records[name].size
        while place < end and (block := os.pread(file.fileno(), min(BLOCK, end - place), place)):
            found.update(block)
            place += len(block)
        return found.hexdigest()

    # One after the other the hashes of full-size Mellow took a fifth of the time in which it loads.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for (name, entry), found in zip(manifest.entries.items(), pool.map(digest, manifest.entries), strict=True):
            if found != entry.sha256:
                raise PackageError(
                    f"{name!r} is altered: its SHA-256 is {found}, "
                    f"the manifest says {entry.sha256}; copy or download the package again"
                )
