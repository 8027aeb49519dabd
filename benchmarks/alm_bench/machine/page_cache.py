"""Make a file cold: out of the system's page cache, so that reading it goes to the disk."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

from alm_bench.results.records import BenchError

MOST_RESIDENT = 0.02
"""Share of a cold file that may still be in memory: the first pages are read by whoever looks at the file."""


def drop(path: Path) -> None:
    """Drop a file from the page cache; BenchError when the system keeps it, as it does while a process maps it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if (left := resident_share(path)) > MOST_RESIDENT:
        raise BenchError(
            f"{left:.0%} of {path} stayed in memory after it was dropped, expected at most {MOST_RESIDENT:.0%}: "
            "another process maps it, or its file system is in memory. Use --cache warm"
        )


def resident_share(path: Path) -> float:
    """The share of a file's pages that are in memory, as mincore(2) tells."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        pages = -(-len(mapped) // mmap.PAGESIZE)
        present = (ctypes.c_ubyte * pages)()
        view = ctypes.c_char.from_buffer(mapped)
        failed = ctypes.CDLL(None, use_errno=True).mincore(ctypes.byref(view), ctypes.c_size_t(len(mapped)), present)
        del view
        if failed:
            raise BenchError(f"the system does not say what of {path} is in memory: errno {ctypes.get_errno()}")
    return sum(byte & 1 for byte in present) / pages
