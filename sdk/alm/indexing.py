"""Keep an index of sounds in step with a folder: what is new or changed is heard, what is gone leaves."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alm.errors import ResultsError
from alm.folder import Recording, each, find_recordings
from alm.models.sound_space import HeardSound, SoundSpace
from alm.search_index import SearchIndex, below

SAVE_SECONDS = 60.0
"""Between two times that the index is written; a run that is killed loses no more than that."""


@dataclass(frozen=True)
class Update:
    """What an update did."""

    heard: int
    """Recordings that were new or had changed."""
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

    A recording counts as changed when its size or time of last change is another. Several are heard at a time, see
    `alm.folder.each`; `progress(done, n)` is called after each. Raises AudioError for a folder without recordings and
    ResultsError for an index that is damaged, of another package or cannot be written.
    """
    index = _opened(model, Path(path))
    recordings = find_recordings(folder)
    here = {str(recording.path.resolve()) for recording in recordings}
    gone = [file for file in below(index.files, Path(folder)) if file not in here]
    index, todo = index.updated({}, gone), index.unheard(recordings)
    heard: dict[Recording, HeardSound] = {}
    failed: list[tuple[str, str]] = []
    saved, bad = time.monotonic(), []
    for number, done in enumerate(each(todo, model.hear, workers=workers), 1):
        if done.result is None:
            failed.append((done.recording.name, done.error))
            bad.append(str(done.recording.path.resolve()))
        else:
            heard[done.recording] = done.result
        if time.monotonic() - saved > SAVE_SECONDS:
            index = index.updated(heard, bad)
            index.write(path)
            heard, bad, saved = {}, [], time.monotonic()
        if progress is not None:
            progress(number, len(todo))
    index.updated(heard, bad).write(path)
    kept = len(recordings) - len(todo)
    return Update(len(todo) - len(failed), kept, len(gone), tuple(failed))


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
