"""A file appears under its final name complete and on disk, or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Yield a readable and seekable temporary file beside `path` that takes its name when the block ends.

    Any exception in the block, KeyboardInterrupt included, removes the temporary file and leaves an
    older file under `path` untouched. The data is flushed to the disk before the rename and the folder
    after it, so a power cut leaves the old file or the new one. Raises OSError where the folder is
    missing, not writable or full.
    """
    final = Path(path)
    temporary = final.with_name(f".{final.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb+") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(final)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(final.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
