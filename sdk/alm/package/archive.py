"""The container: a ZIP whose entries are stored uncompressed, each on a 16 KiB boundary of the file.

Python's zipfile accepts archives that mean different things to different readers (duplicate names, a
local header that contradicts the directory, data in front, gaps, comments). A package has exactly one
meaning, so it has exactly one accepted form: entries one behind the other, the directory, the end
record, and no byte that belongs to none of them. Any unzip program still reads it. ZIP64 is left out:
a package stays below 4 GiB.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any

from alm.errors import PackageError

ALIGNMENT = 16 * 1024
"""Bytes; the largest page of the devices we target, so that every entry can be mapped on its own."""
MAX_BYTES = 2**32 - 1
"""Largest package file in bytes."""
MAX_ENTRIES = 1000
"""Most entries in a package."""
MANIFEST = "manifest.json"
"""The entry that describes all others."""

NAME_PATTERN = r"(?!.{201})[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*"
NAME_RULE = "a relative name of letters, digits, '_', '.', '+', '-' and '/', no part starting with a dot"

# Fields of the ZIP application note: sections 4.3.7 (local header), 4.3.12 (directory), 4.3.16 (end).
LOCAL = struct.Struct("<4s5H3I2H")
CENTRAL = struct.Struct("<4s6H3I5H2I")
END = struct.Struct("<4s4H2IH")
VERSION, DATE = 20, 0x21  # readers of ZIP 2.0; 1980-01-01, so that equal content gives equal bytes
PADDING_ID = 0xD935  # extra field that Android's zipalign uses for the same purpose


@dataclass(frozen=True)
class Record:
    """One entry of the container."""

    name: str
    """Name of the entry."""
    crc: int
    """CRC-32 of the data."""
    size: int
    """Bytes of data."""
    start: int
    """Offset of the local header in the file."""

    @property
    def offset(self) -> int:
        """Offset of the data in the file, a multiple of ALIGNMENT."""
        return self.start + len(self.local_header())

    def local_header(self) -> bytes:
        """The header in front of the data, padded so that the data starts aligned."""
        name = self.name.encode("ascii")
        unpadded = self.start + LOCAL.size + len(name) + 6
        padding = struct.pack("<3H", PADDING_ID, 2 + -unpadded % ALIGNMENT, ALIGNMENT)
        extra = padding + bytes(-unpadded % ALIGNMENT)
        fixed = LOCAL.pack(b"PK\3\4", VERSION, 0, 0, 0, DATE, self.crc, self.size, self.size, len(name), len(extra))
        return fixed + name + extra

    def central_header(self) -> bytes:
        """The record of the directory at the end of the file."""
        name = self.name.encode("ascii")
        return CENTRAL.pack(
            b"PK\1\2", VERSION, VERSION, 0, 0, 0, DATE, self.crc, self.size, self.size,
            len(name), 0, 0, 0, 0, 0, self.start,
        ) + name  # fmt: skip


def directory(records: list[Record], start: int) -> bytes:
    """The directory and end record that close a file whose entries end at `start`."""
    body = b"".join(record.central_header() for record in records)
    return body + END.pack(b"PK\5\6", 0, 0, len(records), len(records), len(body), start, 0)


def check_name(name: str) -> None:
    """Raise PackageError unless `name` is safe to unpack on any system."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise PackageError(f"found an entry named {name!r}, expected {NAME_RULE}")


def read_records(view: memoryview) -> dict[str, Record]:
    """Read and check the structure of a whole package file; PackageError says what is wrong where."""
    if not view:
        raise PackageError("the file is empty, expected an .alm package")
    if len(view) > MAX_BYTES:
        raise PackageError(f"the file has {len(view)} bytes, a package has at most {MAX_BYTES}")
    count, start = _read_end(view)
    records = _read_directory(view, count, start)
    if MANIFEST not in records:
        raise PackageError(f"this is a ZIP file but not an .alm package: it has no {MANIFEST}")
    _check_layout(view, list(records.values()), start)
    return records


def _read_end(view: memoryview) -> tuple[int, int]:
    if bytes(view[:4]) not in (b"PK\3\4", b"PK\5\6"):
        raise PackageError(f"the file starts with {bytes(view[:4])!r}, expected an .alm package (a ZIP file)")
    if len(view) < END.size or bytes(view[-END.size :][:4]) != b"PK\5\6":
        raise PackageError(
            f"the ZIP directory is not at the end of the file ({len(view)} bytes): the package is truncated "
            "or has bytes added; copy or download it again"
        )
    _, disk, first_disk, here, count, size, start, comment = END.unpack(view[-END.size :])
    if disk or first_disk or here != count or comment or count == 0xFFFF:
        raise PackageError("the ZIP end record is damaged, split, commented or ZIP64; copy the package again")
    if start + size + END.size != len(view):
        raise PackageError(
            f"the ZIP directory says the file has {start + size + END.size} bytes, it has {len(view)}: "
            "the package is truncated or altered; copy or download it again"
        )
    if count > MAX_ENTRIES:
        raise PackageError(f"found {count} entries, a package has at most {MAX_ENTRIES}")
    return count, start


def _read_directory(view: memoryview, count: int, start: int) -> dict[str, Record]:
    records: dict[str, Record] = {}
    folded: set[str] = set()
    position, end = start, len(view) - END.size
    for number in range(count):
        if position + CENTRAL.size > end:
            raise PackageError(f"the ZIP directory ends inside record {number} of {count}")
        values = CENTRAL.unpack(view[position : position + CENTRAL.size])
        if values[0] != b"PK\1\2":
            raise PackageError(f"record {number} of the ZIP directory is damaged")
        name = bytes(view[position + CENTRAL.size : position + CENTRAL.size + values[10]])
        record = _read_record(values, name)
        # Two names that differ only in case become one file on many disks.
        if record.name.lower() in folded:
            raise PackageError(f"the entry {record.name!r} occurs twice")
        folded.add(record.name.lower())
        position += CENTRAL.size + sum(values[10:13])
        records[record.name] = record
    if position != end:
        raise PackageError("the ZIP directory does not fill its place; the package is altered")
    return records


def _read_record(values: tuple[Any, ...], raw: bytes) -> Record:
    _, _, _, flags, method, _, _, crc, packed, size, _, _, _, _, _, _, start = values
    name = raw.decode("ascii", errors="backslashreplace")
    check_name(name)
    if flags & 1:
        raise PackageError(f"the entry {name!r} is encrypted, packages are not")
    if method or packed != size:
        raise PackageError(
            f"the entry {name!r} is compressed (method {method}), expected it stored; "
            "packages are written by alm-export, not by a ZIP program"
        )
    return Record(name, crc, size, start)


def _check_layout(view: memoryview, records: list[Record], directory_start: int) -> None:
    position = 0
    for record in records:
        if record.start != position:
            raise PackageError(
                f"the entry {record.name!r} starts at byte {record.start}, expected {position}: "
                "entries stand one behind the other in the order of the directory"
            )
        header = record.local_header()
        if bytes(view[record.start : record.start + len(header)]) != header:
            raise PackageError(
                f"the local header of {record.name!r} disagrees with the ZIP directory, or the entry is not "
                f"aligned to {ALIGNMENT} bytes; packages are written by alm-export, not by a ZIP program"
            )
        position += len(header) + record.size
        if position > directory_start:
            raise PackageError(f"the entry {record.name!r} runs into the ZIP directory; the package is altered")
    if position != directory_start:
        raise PackageError(f"{directory_start - position} bytes before the ZIP directory belong to no entry")
    if bytes(view[directory_start:]) != directory(records, directory_start):
        raise PackageError("the ZIP directory has fields that packages do not use; the package is altered")
