"""Searching an index: by cosine, the best window of a recording first; a damaged index is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm.errors import ResultsError
from alm.folder import find_recordings
from alm.indexing import index_folder
from alm.models import Clap
from alm.models.sound_space import HeardSound
from alm.package.safetensors import read_metadata, read_tensors, write_tensors
from alm.search_index import IndexedFile, SearchIndex
from alm_export.pipeline import Exported

pytestmark = pytest.mark.usefixtures("one_thread")
Export = Callable[..., Exported]


def test_search_is_by_cosine_best_window_first(clap: Clap, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "i.almx"
    index_folder(clap, folder, path)
    index = SearchIndex.open(path)
    sounds = [recording.path for recording in find_recordings(folder) if recording.name != "broken.flac"]
    cosines = clap.embed_audio(sounds) @ clap.embed_text(["rain"])[0]
    found = clap.search(index, "rain", count=3)
    assert [Path(match.path) for match in found] == [sounds[place].resolve() for place in np.argsort(-cosines)[:3]]
    assert [match.likeness for match in found] == pytest.approx(sorted(cosines)[::-1][:3], abs=1e-5)
    (nearest,) = index.search(clap.embed_audio(sounds[3:4])[0], 1)
    assert (Path(nearest.path), nearest.likeness) == (sounds[3].resolve(), pytest.approx(1))
    with pytest.raises(ResultsError, match="a vector of shape"):
        index.search(np.ones(3, np.float32))


def test_a_recording_is_found_by_its_best_window() -> None:
    vectors = np.eye(3, dtype=np.float32)[[1, 0, 2, 1]]
    files = [IndexedFile(f"/{name}.wav", 1, 1, "0" * 64) for name in "ab"]
    sounds = (HeardSound(vectors[:3], ((0, 5), (5, 10), (10, 15))), HeardSound(vectors[3:], ((0, 5),)))
    index = SearchIndex.empty("p.alm", "0" * 64, 3).updated(dict(zip(files, sounds, strict=True)))
    found = index.search(np.array([0.8, 0.6, 0], np.float32))
    assert [(match.path, match.start, match.end) for match in found] == [("/a.wav", 5, 10), ("/b.wav", 0, 5)]
    assert [match.likeness for match in found] == pytest.approx([0.8, 0.6])


def test_the_commands_index_and_search(run, folder: Path, tmp_path: Path, tiny_space: Export) -> None:
    package, path = tiny_space("clap").path, tmp_path / "i.almx"
    status, out, err = run("embed", package, folder, "-o", path)
    assert (status, out) == (0, f"{path}: 5 heard, 0 known, 0 as they were, 0 gone\n")
    assert "1 of 6" in err
    status, out, _ = run("search", path, "a dog far away", "--count", 2, "--json")
    matches = json.loads(out)["matches"]
    assert status == 0
    assert len(matches) == 2
    assert matches[0]["likeness"] >= matches[1]["likeness"]
    other = tiny_space("clap", "int8").path
    status, _, err = run("search", path, "a dog", "--package", other)
    assert status == 1
    assert "whose vectors differ" in err
    status, _, err = run("embed", other, folder, "-o", path)
    assert status == 1
    assert "choose another file for the index" in err


def stored(clap: Clap, path: Path, folder: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    index_folder(clap, folder, path)
    data = path.read_bytes()
    return read_tensors(data), read_metadata(data)


def test_hostile_indexes_are_errors(clap: Clap, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "i.almx"
    tensors, metadata = stored(clap, path, folder)
    described = json.loads(metadata["index"])

    def refused(match: str, words: dict[str, object] | None = None, **changed: np.ndarray) -> None:
        with path.open("wb") as file:
            write_tensors(file, {**tensors, **changed}, {"index": json.dumps({**described, **(words or {})})})
        with pytest.raises(ResultsError, match=match):
            SearchIndex.open(path)

    refused("not all of length 1", vectors=2 * tensors["vectors"])
    refused("not all of length 1", vectors=np.full_like(tensors["vectors"], np.nan))
    refused("found", vectors=tensors["vectors"][:, :-1].copy())
    refused("do not belong", files=tensors["files"] + np.int32(1))
    refused("do not belong", files=tensors["files"][::-1].copy())
    refused("no possible times", spans=tensors["spans"][:, ::-1].copy())
    refused("found", spans=tensors["spans"].astype(np.float32))
    refused("names a recording twice", {"files": [described["files"][0]] * 5})
    refused("do not belong", {"files": described["files"][:-1]})
    refused("index.width", {"width": 0})
    refused("index.fingerprint", {"fingerprint": "x"})
    refused("sha256", {"files": [{**file, "sha256": "x"} for file in described["files"]]})
    refused("index.schema", {"schema": 9})
    for data in (b"", b"short", b"\x00" * 100):
        path.write_bytes(data)
        with pytest.raises(ResultsError, match=r"no usable index .* delete a damaged one to make it again"):
            SearchIndex.open(path)
    path.unlink()
    with pytest.raises(ResultsError, match="cannot be opened: No such file or directory; 'alm embed' makes an index"):
        SearchIndex.open(path)


BASE: list[bytes] = []


@settings(max_examples=60)
@given(data=st.data())
def test_fuzzed_indexes_open_or_are_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.almx"
    if not BASE:
        vectors = np.eye(4, dtype=np.float32)
        sound = HeardSound(vectors, ((0, 1), (1, 2), (2, 3), (3, 4)))
        file = IndexedFile("/a.wav", 1, 1, "0" * 64)
        SearchIndex.empty("p.alm", "0" * 64, 4).updated({file: sound}).write(path)
        BASE.append(path.read_bytes())
    mutated = bytearray(BASE[0])
    place = data.draw(st.integers(0, len(mutated) - 1))
    mutated[place : place + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    path.write_bytes(mutated)
    try:
        index = SearchIndex.open(path)
    except ResultsError:
        return
    assert len(index.search(np.eye(4, dtype=np.float32)[0], 3)) == len(index.files)
