"""Finished work on disk, one line each, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from alm_bench.quality.asking import Done, Work
from alm_bench.quality.items import TaskError


class Journal:
    """An append-only file of JSON lines, with one writer.

    A line is written when a clip is finished, and is found again under the key of its work. A line that was cut off
    when the writer was killed is dropped, and its clip is done again: each clip counts once.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the file. Raises TaskError when it cannot be written, another run does so, or it is none."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
        except OSError as error:
            raise TaskError(f"{path} cannot be written: {error.strerror}; name another file with -o") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._lines = self._read()
        except BlockingIOError:
            self._file.close()
            raise TaskError(f"another run is writing to {path}; wait for it, or name another file with -o") from None
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()

    def find(self, key: str, work: Work) -> Done | None:
        """What came of this work, if it was finished. Only the place of a line is kept in memory."""
        if key not in self._lines:
            return None
        start, size = self._lines[key]
        line = json.loads(os.pread(self._file.fileno(), size, start))
        return Done(work, line["said"], line["failed"])

    def add(self, key: str, done: Done) -> None:
        """Write finished work. Raises ValueError for work that is there already."""
        if key in self._lines:
            raise ValueError(f"{key} is in {self.path} already")
        line = json.dumps({"key": key, "clip": done.work.sources, "said": done.said, "failed": done.failed})
        data = line.encode() + b"\n"
        start = self._file.seek(0, os.SEEK_END)
        self._file.write(data)
        self._file.flush()
        self._lines[key] = (start, len(data))

    def _read(self) -> dict[str, tuple[int, int]]:
        lines: dict[str, tuple[int, int]] = {}
        place = self._file.seek(0)
        for data in self._file:
            if not data.endswith(b"\n"):
                self._file.truncate(place)
                break
            lines[self._key(data)] = (place, len(data))
            place += len(data)
        return lines

    def _key(self, data: bytes) -> str:
        try:
            line: Any = json.loads(data)
            return str(line["key"])
        except (ValueError, TypeError, KeyError):
            raise TaskError(
                f"{self.path} has a line that no run wrote: {data[:60]!r}; remove the file or name another with -o"
            ) from None
