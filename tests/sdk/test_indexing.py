"""An index kept in step with its folder: what is new is heard, what was moved is known, what is gone leaves."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_mellow import RATE, noise

from alm.errors import ResultsError
from alm.indexing import index_folder, remove_folder
from alm.models import Clap
from alm.search_index import SearchIndex
from alm_export.pipeline import Exported

pytestmark = pytest.mark.usefixtures("one_thread")
Export = Callable[..., Exported]


def test_an_index_follows_its_folder(clap: Clap, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "i.almx"
    first = index_folder(clap, folder, path)
    assert (first.heard, first.known, first.kept, first.gone) == (5, 0, 0, 0)
    assert [name for name, _ in first.failed] == ["broken.flac"]
    again = index_folder(clap, folder, path)
    assert (again.heard, again.known, again.kept, again.gone) == (0, 0, 5, 0)
    (folder / "0.wav").unlink()
    soundfile.write(folder / "2.wav", noise(3 * RATE, 9)[0], RATE)
    soundfile.write(folder / "9.wav", noise(RATE, 9)[0], RATE)
    moved = index_folder(clap, folder, path)
    assert (moved.heard, moved.kept, moved.gone) == (2, 3, 1)
    index = SearchIndex.open(path)
    assert {Path(file.path).name for file in index.files} == {"1.wav", "2.wav", "3.wav", "4.wav", "9.wav"}
    assert len(index.vectors) == 7
    other = tmp_path / "other"
    other.mkdir()
    soundfile.write(other / "a.wav", noise(RATE, 20)[0], RATE)
    assert index_folder(clap, other, path).gone == 0
    assert len(SearchIndex.open(path).files) == 6


def test_links_are_known_by_their_own_names(clap: Clap, folder: Path, tmp_path: Path) -> None:
    path, links = tmp_path / "i.almx", tmp_path / "links"
    links.mkdir()
    for name in ("a.wav", "b.wav"):
        (links / name).symlink_to(folder / "0.wav")
    assert index_folder(clap, links, path).heard == 2
    (tmp_path / "elsewhere").symlink_to(links)
    assert index_folder(clap, tmp_path / "elsewhere", path).kept == 2
    (links / "a.wav").unlink()
    assert index_folder(clap, links, path).gone == 1
    assert [file.path for file in SearchIndex.open(path).files] == [str(links.resolve() / "b.wav")]
    assert remove_folder(clap, links / "b.wav", path) == 1


def test_a_name_that_is_not_utf8_costs_no_index(clap: Clap, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "i.almx"
    (folder / "0.wav").rename(folder / os.fsdecode(b"\xff.wav"))
    update = index_folder(clap, folder, path)
    assert (update.heard, len(update.failed)) == (4, 2)
    assert ("\udcff.wav", "its path is not UTF-8, as an index needs it; rename it") in update.failed
    assert len(SearchIndex.open(path).files) == 4


def test_an_index_that_cannot_be_written_costs_no_hearing(
    clap: Clap, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Path] = []
    monkeypatch.setattr(clap, "hear", heard.append)
    with pytest.raises(ResultsError, match="cannot be written"):
        index_folder(clap, folder, tmp_path / "nowhere" / "i.almx")
    assert heard == []


def test_what_was_moved_is_known_and_what_was_changed_is_heard(
    clap: Clap, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "i.almx"
    soundfile.write(folder / "long.wav", noise(3 * RATE, 30)[0], RATE)
    index_folder(clap, folder, path)
    (folder / "long.wav").rename(folder / "deep" / "renamed.wav")
    (folder / "2.wav").rename(folder / "4.wav")  # over another one: that path has other sound now
    os.utime(folder / "0.wav", ns=(1, 1))
    (folder / "copy.wav").write_bytes((folder / "0.wav").read_bytes())
    soundfile.write(folder / "deep" / "1.wav", noise(RATE, 31)[0], RATE)
    os.utime(folder / "deep" / "1.wav", ns=(1, 1))
    heard: list[str] = []
    plain = clap.hear
    monkeypatch.setattr(clap, "hear", lambda sound: (heard.append(sound.name), plain(sound))[1])
    update = index_folder(clap, folder, path)
    assert (update.heard, update.known, update.kept, update.gone) == (1, 4, 1, 2)
    assert sorted(heard) == ["1.wav", "broken.flac"]
    index = SearchIndex.open(path)
    assert {Path(file.path).name for file in index.files} == {
        *("0.wav", "copy.wav", "4.wav", "1.wav", "3.wav", "renamed.wav")
    }
    for place, file in enumerate(index.files):
        expected = plain(file.path)
        np.testing.assert_allclose(index.sound(place).vectors, expected.vectors, atol=1e-6)
        assert index.sound(place).spans == expected.spans


def test_add_update_and_remove_at_the_command(run, folder: Path, tmp_path: Path, tiny_space: Export) -> None:
    package, path, more = tiny_space("clap").path, tmp_path / "i.almx", tmp_path / "more"

    def told(*words: object) -> str:
        status, out, _ = run("embed", package, *words, "-o", path)
        assert status == 0
        return str(out).removeprefix(f"{path}: ").strip()

    (folder / "broken.flac").unlink()
    assert told(folder) == "5 heard, 0 known, 0 as they were, 0 gone"
    more.mkdir()
    (folder / "0.wav").rename(more / "moved.wav")
    assert told(more) == "0 heard, 1 known, 0 as they were, 0 gone"
    assert told(folder) == "0 heard, 0 known, 4 as they were, 1 gone"
    assert told(folder / "2.wav", "--remove") == "1 gone"
    (more / "moved.wav").unlink()
    more.rmdir()
    assert told(more, "--remove") == "1 gone"
    assert told(folder, "--remove") == "3 gone"
    assert SearchIndex.open(path).files == ()
    assert run("search", path, "rain", "--json")[0] == 0
    for output, message, status in ((tmp_path / "x.csv", "it is for an index", 2), (tmp_path / "x.almx", "no such", 1)):
        result = run("embed", package, folder, "--remove", "-o", output)
        assert result[0] == status
        assert message in result[2]
    status, _, err = run("embed", package, more, "-o", path)
    assert status == 1
    assert "is not a folder" in err
