"""Folders of recordings: each counted once, a bad one never in the way of the rest, an index kept in step."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_mellow import RATE, noise

import alm
from alm.commands import main
from alm.errors import AudioError, ResultsError
from alm.folder import each, find_recordings
from alm.indexing import index_folder, remove_folder
from alm.models import Clap, Pam
from alm.models.sound_space import HeardSound
from alm.package.safetensors import read_metadata, read_tensors, write_tensors
from alm.results import Results
from alm.search_index import IndexedFile, SearchIndex
from alm_export.pipeline import Exported

pytestmark = pytest.mark.usefixtures("one_thread")
Export = Callable[..., Exported]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six recordings, one of them broken, and a file that is none."""
    made = tmp_path / "sounds"
    (made / "deep").mkdir(parents=True)
    for index in range(5):
        soundfile.write(made / ("deep" if index % 2 else "") / f"{index}.wav", noise(RATE, index)[0], RATE)
    (made / "broken.flac").write_bytes(b"fLaC and no more")
    (made / "notes.txt").write_text("nothing to hear")
    return made


@pytest.fixture(scope="module")
def clap(tiny_space: Export) -> Iterator[Clap]:
    with alm.load(tiny_space("clap").path, Clap, threads=1) as model:
        yield model


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs `alm` in this process: exit status, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["alm", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
        except SystemExit as left:
            captured = capsys.readouterr()
            return int(left.code or 0), captured.out, captured.err
        raise AssertionError("the command did not exit")

    return run


def test_recordings_are_found_below_and_in_order(folder: Path, tmp_path: Path) -> None:
    names = [recording.name for recording in find_recordings(folder)]
    assert names == ["0.wav", "2.wav", "4.wav", "broken.flac", "deep/1.wav", "deep/3.wav"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(AudioError, match="holds no recording"):
        find_recordings(tmp_path / "empty")
    with pytest.raises(AudioError, match="is not a folder"):
        find_recordings(folder / "0.wav")


def test_work_goes_side_by_side_in_order_and_a_failure_is_a_result(folder: Path) -> None:
    together, seen = threading.Barrier(2, timeout=20), []

    def work(path: Path) -> str:
        if path.name == "broken.flac":
            raise ValueError("odd")
        if path.stem in "02":
            together.wait()
        seen.append(path.stem)
        return path.stem

    done = list(each(find_recordings(folder), work, workers=2))
    assert [one.result for one in done] == ["0", "2", "4", None, "1", "3"]
    assert done[3].error == "ValueError: odd"
    assert len(seen) == 5


def test_paths_will_do_and_a_missing_one_is_a_result(folder: Path) -> None:
    done = list(each([folder / "0.wav", str(folder / "gone.wav")], Path.read_bytes, workers=1))
    assert done[0].result == (folder / "0.wav").read_bytes()
    assert done[0].recording.size == len(done[0].result)
    assert "No such file" in done[1].error


def test_few_are_begun_before_the_first_is_taken(folder: Path) -> None:
    begun: list[Path] = []
    results = each(find_recordings(folder), begun.append, workers=1)
    next(results)
    time.sleep(0.1)
    assert len(begun) <= 4
    results.close()


@pytest.mark.parametrize("ending", ["csv", "json", "jsonl"])
def test_results_are_read_by_others(run, folder: Path, tmp_path: Path, tiny_space: Export, ending: str) -> None:
    package, output = tiny_space("clap").path, tmp_path / f"out.{ending}"
    status, out, err = run("classify", package, folder, "rain", "dog bark", "-o", output)
    assert (status, out) == (0, "")
    assert "1 of 6 recordings could not be used" in err
    assert "broken.flac: " in err
    text = output.read_text()
    if ending == "csv":
        rows = list(csv.DictReader(text.splitlines()))
    else:
        rows = json.loads(text) if ending == "json" else [json.loads(line) for line in text.splitlines()]
    assert [row["file"] for row in rows] == [recording.name for recording in find_recordings(folder)]
    for row in rows:
        if row["file"] == "broken.flac":
            assert "cannot be decoded" in row["error"]
        else:
            assert float(row["p(rain)"]) + float(row["p(dog bark)"]) == pytest.approx(1)
            assert float(row["probability"]) == float(row[f"p({row['label']})"])
            assert not row["error"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [output.name, "sounds"]


def test_lines_for_a_terminal_and_for_a_program(run, folder: Path, tiny_space: Export) -> None:
    package = tiny_space("pam").path
    status, out, _ = run("score", package, folder)
    assert status == 0
    assert [line.split()[-1] for line in out.splitlines()] == ["0.wav", "2.wav", "4.wav", "deep/1.wav", "deep/3.wav"]
    status, out, _ = run("score", package, folder, "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert all(0 <= row["quality"] <= 1 and row["windows"] == 1 for row in rows)


def test_each_prompt_pair_is_a_column(run, folder: Path, tmp_path: Path, tiny_space: Export) -> None:
    pairs, output = tmp_path / "pairs.yaml", tmp_path / "o.json"
    pairs.write_text("- {name: noise, good: clear, bad: noisy}\n- {name: wind, good: still air, bad: wind}\n")
    package = tiny_space("pam", prompts=str(pairs)).path
    assert run("score", package, folder, "-o", output)[0] == 0
    rows = {row["file"]: row for row in json.loads(output.read_text())}
    with alm.load(package, Pam) as model:
        expected = model.score(folder / "0.wav").values
    assert {name: rows["0.wav"][name] for name in ("noise", "wind")} == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("stdout", ["terminal", "file", "pipe"])
def test_a_bar_counts_where_it_can_be_read(folder: Path, tmp_path: Path, tiny_space: Export, stdout: str) -> None:
    terminal, shown = pty.openpty()
    words = ["score", str(tiny_space("pam").path), str(folder)]
    command = [sys.executable, "-c", "from alm.commands import main; main()", *words]
    with (tmp_path / "out").open("wb") as file:
        where = {"terminal": shown, "file": file, "pipe": subprocess.PIPE}[stdout]
        process = subprocess.Popen(command, stdout=where, stderr=shown, env={**os.environ, "TERM": "xterm"})
    os.close(shown)
    told = b""
    with contextlib.suppress(OSError):  # how a terminal ends that nobody writes to any more
        while data := os.read(terminal, 4096):
            told += data
    os.close(terminal)
    piped, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    lines = {"terminal": told, "file": (tmp_path / "out").read_bytes(), "pipe": piped}[stdout].splitlines()
    if stdout != "terminal":
        assert [line.split()[1] for line in lines] == [b"0.wav", b"2.wav", b"4.wav", b"deep/1.wav", b"deep/3.wav"]
    assert all(any(line.endswith(name) for line in lines) for name in (b"0.wav", b"deep/3.wav"))
    assert (b"6/6" in told) == (stdout != "pipe")


@pytest.mark.parametrize(("family", "words"), [("clap", ("classify", "rain", "a dog")), ("pam", ("score",))])
def test_a_bar_says_how_far_into_a_recording_it_is(
    run, folder: Path, tiny_space: Export, monkeypatch: pytest.MonkeyPatch, family: str, words: tuple[str, ...]
) -> None:
    command, *labels = words
    arguments = (command, tiny_space(family).path, folder / "0.wav", *labels)
    _, plain, quiet = run(*arguments)
    assert quiet == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    status, out, err = run(*arguments)
    assert (status, out) == (0, plain)
    assert "listening" in err
    assert "100%" in err


def test_nothing_usable_is_a_failure(run, tmp_path: Path, tiny_space: Export) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a.wav").write_bytes(b"no")
    status, _, err = run("score", tiny_space("pam").path, tmp_path / "s")
    assert status == 1
    assert "none of the 1 recordings could be used; the first: a.wav" in err


def test_a_killed_run_goes_on_and_counts_each_once(folder: Path, tmp_path: Path, tiny_space: Export) -> None:
    for index in range(40):
        soundfile.write(folder / f"more{index}.wav", noise(RATE, index)[0], RATE)
    output = tmp_path / "out.jsonl"
    words = ["embed", str(tiny_space("clap").path), str(folder), "-o", str(output)]
    command = [sys.executable, "-c", "from alm.commands import main; main()", *words]
    part = tmp_path / "out.jsonl.part"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while (not part.exists() or part.read_bytes().count(b"\n") < 4) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = part.read_bytes()
    assert before.count(b"\n") >= 4
    part.write_bytes(before + b'{"file": "more')  # a line that was being written
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    files = [json.loads(line)["file"] for line in output.read_text().splitlines()]
    assert sorted(files) == [recording.name for recording in find_recordings(folder)]
    assert not part.exists()


def test_two_runs_do_not_share_a_part(folder: Path, tmp_path: Path) -> None:
    recordings, output = find_recordings(folder), tmp_path / "o.csv"
    done = [*each(recordings, lambda path: {"x": 1.0}, workers=1)]
    with Results(output, {"score": "a"}) as results:
        results.add(done[0])
        with pytest.raises(ResultsError, match=r"o\.csv\.part is in use by another run"):
            Results(output, {"score": "a"})
    with Results(output, {"score": "a"}) as results:
        assert results.missing(recordings) == recordings[1:]
        for one in done[1:]:
            results.add(one)
        results.finish()
    assert [row["file"] for row in csv.DictReader(output.read_text().splitlines())] == [r.name for r in recordings]


def test_a_part_of_another_run_or_changed_sound_is_refused(folder: Path, tmp_path: Path) -> None:
    recordings, output = find_recordings(folder), tmp_path / "o.csv"
    with Results(output, {"score": "a"}) as results:
        results.add(next(each(recordings, lambda path: {"x": 1.0}, workers=1)))
    with pytest.raises(ResultsError, match="left by another run"):
        Results(output, {"score": "b"})
    os.utime(recordings[0].path, ns=(1, 1))
    with (
        Results(output, {"score": "a"}) as results,
        pytest.raises(ResultsError, match=r"0\.wav was changed since"),
    ):
        results.missing(find_recordings(folder))
    with pytest.raises(ResultsError, match="choose one of these endings"):
        Results(tmp_path / "o.xls", {})
    with pytest.raises(ResultsError, match="cannot be written"):
        Results(tmp_path / "nowhere" / "o.csv", {})


@pytest.mark.parametrize(
    ("family", "words", "options"),
    [
        ("clap", ["rain", "a dog"], ["--template=a {}", "--window=first", "--compat", "--adapt=clip", "another label"]),
        ("pam", [], ["--window=first", "--compat"]),
        ("clapcap", [], ["--beams=1", "--max-tokens=2", "--window=first", "--compat"]),
        (
            "adiff",
            ["a?"],
            ["--max-tokens=2", "--window=first", "--temperature=1", "--seed=1", "--stop=x", "--top-p=.5"],
        ),
    ],
)
def test_what_was_done_otherwise_is_not_gone_on_with(
    run,
    folder: Path,
    tmp_path: Path,
    tiny_space: Export,
    tiny_captioner_export: Export,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    words: list[str],
    options: list[str],
) -> None:
    """Options that change a result are part of what a run is."""
    command = {"clap": "classify", "pam": "score", "clapcap": "caption", "adiff": "ask"}[family]
    package = (tiny_space if family in ("clap", "pam") else tiny_captioner_export)(family).path
    arguments = (command, package, folder, *words, "-o", tmp_path / "o.csv")
    with monkeypatch.context() as killed:
        killed.setattr("alm.folder.each", lambda *_, **__: iter(()))
        killed.setattr(Results, "finish", Results.close)
        assert run(*arguments)[0] == 0
    for option in options:
        status, _, err = run(*arguments, option)
        assert status == 1, option
        assert "left by another run" in err


@pytest.mark.parametrize("line", [b"[]", b"{}", b"nonsense", b'{"file": 3, "size": 1, "mtime_ns": 1, "result": {}}'])
def test_a_damaged_part_is_refused(tmp_path: Path, line: bytes) -> None:
    Results(tmp_path / "o.csv", {}).close()
    part = tmp_path / "o.csv.part"
    part.write_bytes(part.read_bytes() + line + b"\n")
    with pytest.raises(ResultsError, match="holds a line that is no result"):
        Results(tmp_path / "o.csv", {})


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
        with pytest.raises(ResultsError, match=r"no usable index .* delete it and make it again"):
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
