"""Folders of recordings: found in order, worked through side by side, and a bad one never in the way of the rest."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from alm.errors import AudioError
from alm.folder import each, find_recordings
from alm_export.pipeline import Exported

pytestmark = pytest.mark.usefixtures("one_thread")
Export = Callable[..., Exported]


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


def test_lines_for_a_terminal_and_for_a_program(run, folder: Path, tiny_space: Export) -> None:
    package = tiny_space("pam").path
    status, out, _ = run("score", package, folder)
    assert status == 0
    assert [line.split()[-1] for line in out.splitlines()] == ["0.wav", "2.wav", "4.wav", "deep/1.wav", "deep/3.wav"]
    status, out, _ = run("score", package, folder, "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert all(0 <= row["quality"] <= 1 and row["windows"] == 1 for row in rows)


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
