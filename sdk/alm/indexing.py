"""Keep an index of sounds in step with a folder: what is new or changed is heard, what is gone leaves."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alm.errors import AudioError, ResultsError
from alm.folder import each, find_recordings
from alm.models.sound_space import HeardSound, SoundSpace
from alm.search_index import IndexedFile, SearchIndex, below

SAVE_SECONDS = 60.0
"""Between two times that the index is written; a run that is killed loses no more than that."""


@dataclass(frozen=True)
class Update:
    """What an update did."""

    heard: int
    """Recordings whose sound was new."""
    known: int
    """Recordings that were moved, copied or only touched: the index had what is in them."""
    kept: int
    """Recordings that were as the index had them."""
    gone: int
    """Recordings that were no longer below the folder."""
    failed: tuple[tuple[str, str], ...]
    """Name and reason of those that could not be used; they are not in the index."""


def index_folder(
    model: SoundSpace,
    folder: str | Path,
    path: str | Path,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Update:
    """Make the index at `path`, or bring it in step with a folder; recordings of other folders in it stay.

    A recording whose path, size and time of last change are those of the index is not looked at; any other is heard
    unless the index has its very bytes, under whatever name. Several are heard at a time, see `alm.folder.each`;
    `progress(done, n)` is called after each. Raises AudioError for a folder without recordings and ResultsError for an
    index that is damaged, of another package or cannot be written.
    """
    before = index = _opened(model, Path(path))
    contents = {file.sha256: place for place, file in enumerate(before.files)}

    def hear(recording: Path) -> _Heard:
        try:
            str(recording).encode()
        except UnicodeEncodeError as error:
            raise AudioError("its path is not UTF-8, as an index needs it; rename it") from error
        with recording.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        known = sha256 in contents
        return _Heard(sha256, before.sound(contents[sha256]) if known else model.hear(recording), known)

    # The folder's own links are resolved and not those in it: a recording is known by the name it has there.
    recordings = find_recordings(Path(folder).resolve())
    here = {str(recording.path) for recording in recordings}
    gone = [file for file in below(index.files, Path(folder)) if file not in here]
    index, todo = index.updated({}, gone), index.unheard(recordings)
    if todo:
        index.write(path)  # before anything is heard: a path that cannot be written costs no hearing
    heard: dict[IndexedFile, HeardSound] = {}
    failed: list[tuple[str, str]] = []
    saved, bad, known = time.monotonic(), [], 0
    for number, done in enumerate(each(todo, hear, workers=workers), 1):
        place = str(done.recording.path)
        if done.result is None:
            failed.append((done.recording.name, done.error))
            bad.append(place)
        else:
            file = IndexedFile(place, done.recording.size, done.recording.mtime_ns, done.result.sha256)
            heard[file] = done.result.sound
            known += done.result.known
        if time.monotonic() - saved > SAVE_SECONDS:
            index = index.updated(heard, bad)
            index.write(path)
            heard, bad, saved = {}, [], time.monotonic()
        if progress is not None:
            progress(number, len(todo))
    index.updated(heard, bad).write(path)
    new, kept = len(todo) - len(failed) - known, len(recordings) - len(todo)
    return Update(new, known, kept, len(gone), tuple(failed))


def remove_folder(model: SoundSpace, folder: str | Path, path: str | Path) -> int:
    """Take the recordings below a folder, which need not exist any more, or one recording out of the index at `path`;
    returns how many there were. ResultsError when there is no such index or it cannot be written."""
    if not Path(path).exists():
        raise ResultsError(f"{path}: no such index, so nothing can be taken out of it")
    index = _opened(model, Path(path))
    gone = below(index.files, Path(folder))
    index.updated({}, gone).write(path)
    return len(gone)


@dataclass(frozen=True)
class _Heard:
    """What came of one recording."""

    sha256: str
    """Hash of its bytes."""
    sound: HeardSound
    """Its vectors."""
    known: bool
    """Whether they were in the index."""


def _opened(model: SoundSpace, path: Path) -> SearchIndex:
    fingerprint = model.package.fingerprint
    if not path.exists():
        return SearchIndex.empty(str(model.package.path.resolve()), fingerprint, model.space.width)
    index = SearchIndex.open(path)
    if index.fingerprint != fingerprint:
        raise ResultsError(
            f"{path} was made with {index.package} and not with {model.package.path}, whose vectors differ; "
            "choose another file for the index"
        )
    return index
