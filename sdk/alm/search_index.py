"""An index of sounds: the vectors of many recordings in one file that is mapped and searched in place.

The file is a safetensors file: `vectors` (rows, width) float32, one unit vector per window; `files` (rows,) int32,
which recording a row belongs to; `spans` (rows, 2) float64, start and end in seconds. Its metadata names the recordings
with size, time of last change and hash, and the package that made the vectors. Whatever does not fit is a ResultsError.
"""

from __future__ import annotations

import dataclasses
import json
import mmap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray

from alm.engines.base import Float32
from alm.errors import PackageError, ResultsError
from alm.folder import RecordingFile
from alm.models.sound_space import HeardSound
from alm.package.atomic import atomic_write
from alm.package.safetensors import read_metadata, read_tensors, write_tensors
from alm.package.schema import Between, decode, parse_json
from alm.package.sections import Sha256

SCHEMA = 2
BLOCK = 16384
"""Rows compared at a time, so that a search takes the memory of a block and not of the index."""
KEY = "index"

Natural = Annotated[int, Between(0, 2**63 - 1)]


@dataclass(frozen=True)
class IndexedFile:
    """A recording in an index."""

    path: str
    """Absolute path."""
    size: Natural
    """Bytes when it was heard."""
    mtime_ns: Natural
    """When it had last been written."""
    sha256: Sha256
    """Hash of its bytes: it tells a recording that was moved or copied."""


@dataclass(frozen=True)
class _Description:
    """The metadata of an index."""

    schema: Annotated[int, Between(SCHEMA, SCHEMA)]
    package: str
    """Path of the package that made the vectors."""
    fingerprint: Sha256
    """Its fingerprint: vectors of another one cannot be compared."""
    width: Annotated[int, Between(1, 2**16)]
    """Numbers per vector."""
    files: tuple[IndexedFile, ...]
    """The recordings, in the order of `files`."""


@dataclass(frozen=True)
class Match:
    """A recording that was found."""

    path: str
    """Where it is."""
    likeness: float
    """Cosine of its best window, from -1 to 1."""
    start: float
    """Start of that window, seconds."""
    end: float
    """End of that window, seconds."""


@dataclass(frozen=True, eq=False)
class SearchIndex:
    """Vectors of recordings. Never changed: `updated` makes another one, `write` a file."""

    package: str
    """Path of the package that made the vectors."""
    fingerprint: str
    """Its `Package.fingerprint`."""
    files: tuple[IndexedFile, ...]
    """The recordings."""
    vectors: Float32
    """Unit vectors (rows, width), one per window."""
    rows: NDArray[np.int32]
    """Which of `files` each row belongs to, in order."""
    spans: NDArray[np.float64]
    """Start and end (rows, 2) of each row's window, seconds."""

    @classmethod
    def empty(cls, package: str, fingerprint: str, width: int) -> Self:
        """An index of nothing, for vectors of one package."""
        none = np.empty((0, width), np.float32)
        return cls(package, fingerprint, (), none, np.empty(0, np.int32), np.empty((0, 2)))

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Map and check an index; its vectors stay in the file until a search reads them. ResultsError when it is no
        index, damaged or inconsistent."""
        try:
            with Path(path).open("rb") as file:
                view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            metadata, tensors = read_metadata(view), read_tensors(view)
            if KEY not in metadata:
                raise PackageError("its metadata names no recordings, so it is no index")
            described = decode(_Description, parse_json(metadata[KEY], KEY), KEY)
            _check(described, tensors)
        except OSError as error:
            raise ResultsError(f"{path} cannot be opened: {error.strerror}; 'alm embed' makes an index") from error
        except (PackageError, ValueError) as error:
            raise ResultsError(
                f"{path} is no usable index of sounds: {error}; name an index of 'alm embed', or "
                "delete a damaged one to make it again"
            ) from error
        return cls(
            described.package,
            described.fingerprint,
            described.files,
            tensors["vectors"],
            tensors["files"],
            tensors["spans"],
        )

    def write(self, path: str | Path) -> None:
        """Write the index; the file appears complete or not at all. ResultsError when it cannot be written."""
        width = self.vectors.shape[1]
        described = _Description(SCHEMA, self.package, self.fingerprint, width, self.files)
        metadata = {KEY: json.dumps(dataclasses.asdict(described))}
        tensors: dict[str, NDArray[Any]] = {"vectors": self.vectors, "files": self.rows, "spans": self.spans}
        try:
            with atomic_write(path) as file:
                write_tensors(file, tensors, metadata)
        except OSError as error:
            raise ResultsError(
                f"{path} cannot be written: {error.strerror}; free some space or choose another file"
            ) from error

    def unheard(self, recordings: Iterable[RecordingFile]) -> list[RecordingFile]:
        """Those, with absolute paths, that the index lacks or has with another size or time of last change."""
        have = {(file.path, file.size, file.mtime_ns) for file in self.files}
        return [one for one in recordings if (str(one.path), one.size, one.mtime_ns) not in have]

    def sound(self, place: int) -> HeardSound:
        """The vectors of the recording at that place of `files`."""
        start, end = np.searchsorted(self.rows, (place, place + 1))
        return HeardSound(self.vectors[start:end], tuple((float(a), float(b)) for a, b in self.spans[start:end]))

    def updated(self, heard: Mapping[IndexedFile, HeardSound], gone: Iterable[str] = ()) -> Self:
        """The index with recordings added, or replaced where their path is known, and those at the paths `gone` left
        out."""
        dropped = {file.path for file in heard} | set(gone)
        kept = [index for index, file in enumerate(self.files) if file.path not in dropped]
        places = np.full(len(self.files), -1, np.int32)
        places[kept] = np.arange(len(kept), dtype=np.int32)
        rows = places[self.rows]
        stays = rows >= 0
        counts = [len(sound.vectors) for sound in heard.values()]
        added = np.repeat(np.arange(len(kept), len(kept) + len(heard), dtype=np.int32), counts)
        return dataclasses.replace(
            self,
            files=(*(self.files[index] for index in kept), *heard),
            vectors=np.concatenate([self.vectors[stays], *(sound.vectors for sound in heard.values())]),
            rows=np.concatenate([rows[stays], added]),
            spans=np.concatenate([self.spans[stays], *(np.array(sound.spans) for sound in heard.values())]),
        )

    def search(self, vector: Float32, count: int = 10) -> tuple[Match, ...]:
        """The recordings nearest to a unit vector (width,), the nearest first, each by its best window.

        ResultsError when the vector has another width than the index.
        """
        if vector.shape != self.vectors.shape[1:]:
            raise ResultsError(f"found a vector of shape {vector.shape}, the index has {self.vectors.shape[1:]}")
        likeness = np.empty(len(self.vectors), np.float32)
        for start in range(0, len(self.vectors), BLOCK):
            np.matmul(self.vectors[start : start + BLOCK], vector, out=likeness[start : start + BLOCK])
        found: dict[int, int] = {}
        for row in np.argsort(-likeness, kind="stable"):
            found.setdefault(int(self.rows[row]), int(row))
            if len(found) == count:
                break
        return tuple(
            Match(self.files[file].path, float(likeness[row]), float(self.spans[row, 0]), float(self.spans[row, 1]))
            for file, row in found.items()
        )


def below(files: Sequence[IndexedFile], folder: Path) -> list[str]:
    """The paths of those that lie below a folder, or are that file, which may be a link itself."""
    path = str(folder.resolve() if folder.is_dir() else folder.parent.resolve() / folder.name)
    return [file.path for file in files if file.path == path or file.path.startswith(f"{path}/")]


def _check(described: _Description, tensors: Mapping[str, NDArray[Any]]) -> None:
    count = len(tensors["vectors"]) if "vectors" in tensors else 0
    shapes = {"vectors": ("float32", (count, described.width)), "files": ("int32", (count,))}
    found = {name: (tensor.dtype.name, tensor.shape) for name, tensor in tensors.items()}
    if found != (expected := {**shapes, "spans": ("float64", (count, 2))}):
        raise PackageError(f"found {found}, expected {expected}")
    rows, spans, files = tensors["files"], tensors["spans"], described.files
    if len({file.path for file in files}) < len(files):
        raise PackageError("it names a recording twice")
    if not np.array_equal(np.unique(rows), np.arange(len(files))) or (np.diff(rows) < 0).any():
        raise PackageError(f"its rows do not belong to its {len(files)} recordings in order")
    if not np.isfinite(spans).all() or (spans[:, 0] < 0).any() or (spans[:, 1] <= spans[:, 0]).any():
        raise PackageError("its windows have no possible times")
    # Read in blocks: checking must not make the whole index resident.
    for start in range(0, count, BLOCK):
        norms = np.linalg.norm(tensors["vectors"][start : start + BLOCK], axis=1)
        if not np.allclose(norms, 1, atol=1e-2):
            raise PackageError("its vectors are not all of length 1")
