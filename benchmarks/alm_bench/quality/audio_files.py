"""From the names in task files to the recordings of a folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from alm.folder import SUFFIXES
from alm_bench.quality.items import TaskError


class AudioFolder:
    """The recordings anywhere below a folder, found by the names that task files use.

    Files name a recording by a path below a folder of their authors, by a file name, or by an identifier without
    ending. The longest part of the name that some recording ends with decides; the ending may differ, since Clotho and
    AudioCaps are passed on in several formats. AudioCaps identifiers count with and without their leading `Y`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._by_stem: dict[str, list[Path]] = {}
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in SUFFIXES:
                self._by_stem.setdefault(path.stem, []).append(path)

    def find(self, name: str) -> Path | None:
        """The recording of this name, or None; TaskError when several fit equally well."""
        wanted = PurePosixPath(name.replace("\\", "/"))
        stem = wanted.stem if wanted.suffix.lower() in SUFFIXES else wanted.name
        candidates = self._by_stem.get(stem) or self._by_stem.get(stem.removeprefix("Y")) or []
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        shared = [_shared_folders(path.parent.parts, wanted.parent.parts) for path in candidates]
        best = [path for path, count in zip(candidates, shared, strict=True) if count == max(shared)]
        if len(best) > 1:
            raise TaskError(
                f"{name!r} is any of {', '.join(str(path) for path in best[:3])} below {self.folder}; "
                "keep one of them there"
            )
        return best[0]

    def find_all(self, names: Iterable[str]) -> tuple[dict[str, Path], list[str]]:
        """Paths by name, and the names of which there is no recording, in order."""
        found, missing = {}, []
        for name in dict.fromkeys(names):
            path = self.find(name)
            if path is None:
                missing.append(name)
            else:
                found[name] = path
        return found, missing


def _shared_folders(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """How many folders, from the last on, two paths have in common."""
    count = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        count += 1
    return count
