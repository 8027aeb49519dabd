"""Results of a folder in a file that other programs read, and that a killed run is continued from.

While a run goes on, `NAME.part` beside the final file takes one line of JSON per recording as soon as it is done. A
run that finds such a file goes on behind its last whole line. When every recording has its line, the final file is made
from it in one step (CSV, JSON or JSON lines, by its ending) and the other goes away.
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from alm.closing import Closing
from alm.errors import ResultsError
from alm.folder import Done, RecordingFile
from alm.package.atomic import atomic_write

FORMATS = (".csv", ".json", ".jsonl")

Row = Mapping[str, str | float]
"""What is said about one recording, by column."""


class Results(Closing):
    """The results of one run. One thread uses it at a time."""

    def __init__(self, path: str | Path, run: Mapping[str, Any]) -> None:
        """Begin a run or go on with one. `run` says what is done, as JSON: a part that says something else is another
        run's, and a ResultsError, as is a damaged one or a path that cannot be written."""
        self.path = Path(path)
        """Where the results will be."""
        if self.path.suffix not in FORMATS:
            raise ResultsError(f"{self.path}: results are written as {', '.join(FORMATS)}; choose one of these endings")
        self.part = part_of(self.path)
        """Where they are while the run goes on."""
        self.failed: list[tuple[str, str]] = []
        """Name and reason of each recording that has no result."""
        header = json.dumps({"run": run}, sort_keys=True)
        self._have: dict[str, tuple[int, int]] = {}
        try:
            self._file = self.part.open("a+b")
        except OSError as error:
            raise ResultsError(f"{self.part} cannot be written: {error.strerror}; choose another file") from error
        try:
            self._lock()
            self._resume(f"{header}\n".encode())
        except OSError as error:
            self.close()
            raise ResultsError(f"{self.part} cannot be written: {error.strerror}; choose another file") from error
        except ResultsError:
            self.close()
            raise

    def missing(self, recordings: Sequence[RecordingFile]) -> list[RecordingFile]:
        """Those that have no line yet. ResultsError when one that has was changed since."""
        for recording in recordings:
            if self._have.get(recording.name, same := (recording.size, recording.mtime_ns)) != same:
                raise ResultsError(
                    f"{recording.name} was changed since {self.part} took its result; delete that file to start again"
                )
        return [recording for recording in recordings if recording.name not in self._have]

    def add(self, done: Done[Row]) -> None:
        """Write one recording's line; what is written survives the end of this process. ResultsError on a full disk."""
        recording = done.recording
        line: dict[str, Any] = {"file": recording.name, "size": recording.size, "mtime_ns": recording.mtime_ns}
        line |= {"error": done.error} if done.result is None else {"result": dict(done.result)}
        try:
            self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise ResultsError(
                f"{self.part} cannot be written: {error.strerror}; free some space and run it again"
            ) from error
        self._count(line)

    def finish(self) -> None:
        """Make the final file. ResultsError when it cannot be written; the part then stays."""
        write = {".csv": _write_csv, ".json": _write_json, ".jsonl": _write_lines}[self.path.suffix]
        try:
            with atomic_write(self.path) as file:
                text = io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="")
                write(text, self.part)
                text.flush()
                text.detach()
            self.part.unlink()
            self._file.close()  # last: until the part is gone, no other run may take it up
        except OSError as error:
            raise ResultsError(f"{self.path} cannot be written: {error.strerror}; run it again to go on") from error

    def close(self) -> None:
        """Stop; what is written stays, and the next run goes on behind it."""
        self._file.close()

    def _lock(self) -> None:
        """Two runs that write one part would do each recording twice."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken = os.fstat(self._file.fileno()).st_nlink == 0  # finished by another run since it was opened
        except BlockingIOError:
            taken = True
        if taken:
            raise ResultsError(f"{self.part} is in use by another run; wait for it, or choose another file")

    def _resume(self, header: bytes) -> None:
        self._file.seek(0)
        first = self._file.readline()
        if not first:
            self._file.write(header)
            self._file.flush()
            return
        if first != header:
            raise ResultsError(
                f"{self.part} was left by another run: another package, folder or question; delete it, or choose "
                "another file for the results"
            )
        good = self._file.tell()
        for data in self._file:
            if not data.endswith(b"\n"):
                break  # the process ended within a line: that recording is done again
            self._count(_parsed(data, self.part))
            good += len(data)
        self._file.truncate(good)

    def _count(self, line: dict[str, Any]) -> None:
        if line["file"] in self._have:
            raise ResultsError(f"{self.part} has two lines for {line['file']!r}; delete it to start again")
        self._have[line["file"]] = (line["size"], line["mtime_ns"])
        if "error" in line:
            self.failed.append((line["file"], line["error"]))


def part_of(path: Path) -> Path:
    """Where the results for `path` are while the run goes on."""
    return path.with_name(f"{path.name}.part")


def _parsed(data: bytes, part: Path) -> dict[str, Any]:
    try:
        line = json.loads(data)
        kinds = {"file": str, "size": int, "mtime_ns": int}
        if all(isinstance(line[key], kind) for key, kind in kinds.items()) and ("error" in line) != ("result" in line):
            return dict(line)
    except (ValueError, KeyError, TypeError):
        pass
    raise ResultsError(f"{part} holds a line that is no result: {data[:60]!r}; delete the file to start again")


def _rows(part: Path) -> Iterator[dict[str, Any]]:
    with part.open("rb") as file:
        file.readline()
        for data in file:
            line = _parsed(data, part)
            yield {"file": line["file"], **line.get("result", {}), "error": line.get("error", "")}


def _write_csv(text: io.TextIOWrapper, part: Path) -> None:
    columns = next((list(row) for row in _rows(part) if not row["error"]), ["file", "error"])
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    writer.writerows(_rows(part))


def _write_json(text: io.TextIOWrapper, part: Path) -> None:
    for index, row in enumerate(_rows(part)):
        text.write(("[\n" if not index else ",\n") + json.dumps(row, allow_nan=False))
    text.write("\n]\n")


def _write_lines(text: io.TextIOWrapper, part: Path) -> None:
    for row in _rows(part):
        text.write(json.dumps(row, allow_nan=False) + "\n")
