"""A folder or list of recordings: the same work for each, on all cores, in bounded memory, and none stops the rest."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from alm.errors import AlmError, AudioError

T = TypeVar("T")

SUFFIXES = frozenset(
    {".aif", ".aifc", ".aiff", ".au", ".avr", ".caf", ".flac", ".htk", ".mp3", ".nist", ".oga", ".ogg", ".opus", ".paf"}
    | {".pvf", ".rf64", ".sds", ".sf", ".snd", ".svx", ".voc", ".w64", ".wav", ".wave", ".wve", ".xi"}
)
"""What libsndfile reads, by the end of a name; everything else in a folder is left alone."""
AHEAD = 2
"""Recordings begun per worker before the first of them is done."""


@dataclass(frozen=True)
class RecordingFile:
    """The file of a recording, and what tells that it is still the same."""

    path: Path
    """Where it is."""
    name: str
    """Its path below the folder, with slashes."""
    size: int
    """Bytes."""
    mtime_ns: int
    """When it was last written."""


@dataclass(frozen=True)
class Done(Generic[T]):
    """What came of one recording."""

    recording: RecordingFile
    """Which one."""
    result: T | None
    """What the work gave; None where it failed."""
    error: str = ""
    """Why it failed; empty where it did not."""


def find_recordings(folder: str | Path) -> list[RecordingFile]:
    """The recordings below a folder in order of their names. AudioError when it is no folder or holds none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise AudioError(f"{folder} is not a folder")
    found = [
        recording_at(path, path.relative_to(folder).as_posix())
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file()
    ]
    if not found:
        raise AudioError(f"{folder} holds no recording: no file in it ends like one that libsndfile reads")
    return sorted(found, key=lambda recording: recording.name)


def recording_at(path: Path, name: str) -> RecordingFile:
    """The recording in that file, under that name. AudioError when it cannot be looked at."""
    try:
        status = path.stat()
    except OSError as error:
        raise AudioError(f"{path} cannot be opened: {error.strerror}") from error
    return RecordingFile(path, name, status.st_size, status.st_mtime_ns)


def each(
    recordings: Iterable[RecordingFile | str | Path], work: Callable[[Path], T], *, workers: int | None = None
) -> Iterator[Done[T]]:
    """Do `work` for every recording, several at a time, and give out what came of them in the order they came in.
    `find_recordings` finds those of a folder; paths will do.

    Whatever one recording raises is its result. `workers` is one per core that this process may use unless given, and
    AlmError when fewer than one; load the model with `threads=1`, so that each worker has a core of its own: two
    recordings on a thread each are done sooner than one after the other on two. Leaving early stops what has not begun.
    """
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    if workers < 1:
        raise AlmError(f"workers is {workers}, expected at least 1")
    waiting: deque[tuple[RecordingFile, Future[T]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="alm-folder")
    try:
        for recording in map(_looked_at, recordings):
            waiting.append((recording, pool.submit(work, recording.path)))
            if len(waiting) > AHEAD * workers:
                yield _done(*waiting.popleft())
        while waiting:
            yield _done(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _looked_at(recording: RecordingFile | str | Path) -> RecordingFile:
    if isinstance(recording, RecordingFile):
        return recording
    try:
        return recording_at(Path(recording), str(recording))
    except AudioError:  # the work will say why, as one of the results
        return RecordingFile(Path(recording), str(recording), 0, 0)


def _done(recording: RecordingFile, future: Future[T]) -> Done[T]:
    try:
        return Done(recording, future.result())
    except AlmError as error:
        return Done(recording, None, str(error))
    except Exception as error:  # a decoder's defect must not cost the other recordings
        return Done(recording, None, f"{type(error).__name__}: {error}")
