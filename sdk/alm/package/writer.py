"""Write a package: entries streamed into an aligned ZIP, hashed on the way, visible only when complete."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from alm.errors import PackageError
from alm.package.archive import (
    END,
    MANIFEST,
    MAX_BYTES,
    MAX_ENTRIES,
    Record,
    check_name,
    directory,
)
from alm.package.atomic import atomic_write
from alm.package.manifest import Manifest
from alm.package.sections import Entry

BLOCK = 1024 * 1024


def write_package(path: str | Path, manifest: Manifest, entries: Mapping[str, bytes | Path]) -> Manifest:
    """Write `entries` and the manifest as one package file at `path`; returns the manifest with its entries.

    An entry is its bytes, or the path of a file that is copied block by block. Whatever is in
    `manifest.entries` is replaced. The file appears complete or not at all: an error, Ctrl-C or a full
    disk leaves neither it nor a temporary file, and an older file at `path` as it was. Raises
    PackageError for a bad name, an invalid manifest, an unreadable entry or a failed write.
    """
    path = Path(path)
    _check(manifest, entries)
    try:
        with atomic_write(path) as file:
            return _write(file, manifest, entries)
    except PackageError as error:
        raise PackageError(f"{path}: {error}") from None
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "; free some space or choose another folder" if full else ""
        raise PackageError(f"{path} could not be written: {error}{advice}") from error


def _check(manifest: Manifest, entries: Mapping[str, bytes | Path]) -> None:
    names = list(entries)
    for name in names:
        check_name(name)
    lowered = [name.lower() for name in [*names, MANIFEST]]
    if repeated := [name for name in names if lowered.count(name.lower()) > 1]:
        raise PackageError(f"the entry name {repeated[0]!r} is taken (case does not count)")
    if len(lowered) > MAX_ENTRIES:
        raise PackageError(f"found {len(lowered)} entries, a package has at most {MAX_ENTRIES}")
    if missing := sorted(manifest.required_entries - set(names)):
        raise PackageError(f"the manifest needs the entry {missing[0]!r}, found only {', '.join(sorted(names))}")


def _write(file: BinaryIO, manifest: Manifest, entries: Mapping[str, bytes | Path]) -> Manifest:
    records: list[Record] = []
    listed: dict[str, Entry] = {}
    for name, source in entries.items():
        record, sha256 = _append(file, name, source)
        records.append(record)
        listed[name] = Entry(record.size, sha256)
    text = dataclasses.replace(manifest, entries=listed).to_json()
    records.append(_append(file, MANIFEST, text)[0])
    end = file.tell()
    closing = directory(records, end)
    if end + len(closing) > MAX_BYTES:
        raise PackageError(f"the package would have {end + len(closing)} bytes, the limit is {MAX_BYTES}")
    file.write(closing)
    return Manifest.from_json(text)


def _append(file: BinaryIO, name: str, source: bytes | Path) -> tuple[Record, str]:
    start = file.tell()
    placeholder = Record(name, 0, 0, start).local_header()
    file.write(placeholder)
    digest, crc, size = hashlib.sha256(), 0, 0
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
        while block := stream.read(BLOCK):
            size += len(block)
            if start + len(placeholder) + size > MAX_BYTES - END.size:
                raise PackageError(f"the entry {name!r} ends beyond the limit of {MAX_BYTES} bytes")
            digest.update(block)
            crc = zlib.crc32(block, crc)
            file.write(block)
    # Size and checksum are known only now; the header's length does not depend on them.
    record = Record(name, crc, size, start)
    file.seek(start)
    file.write(record.local_header())
    file.seek(0, io.SEEK_END)
    return record, digest.hexdigest()
