"""What people get wrong at the `alm` command: they are told what was found, and nothing else is done."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import soundfile
import typer
from fakes import noise

import alm
from alm.commands import app
from alm_export.pipeline import Exported

if TYPE_CHECKING:
    from sdk.conftest import Run

Export = Callable[..., Exported]
COMMANDS = typer.main.get_command(app).commands


def told(result: tuple[int, str, str]) -> str:
    """Standard error without frames and line breaks."""
    return " ".join(result[2].replace("│", " ").split())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fills_its_lines(run: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """What is written in lines of 120 is not shown as one full line and a short rest in turn."""
    monkeypatch.setenv("COLUMNS", "80")
    shown = [line.strip() for line in run(command, "--help").out.splitlines()]
    text = shown[: next(number for number, line in enumerate(shown) if line.startswith("╭"))]
    for line, following in pairwise(text):
        if line and following:
            assert len(line) + 1 + len(following.split()[0]) > 78, (line, following)


@pytest.mark.parametrize("words", [("ask", "p.alm", "", "what?"), ("embed", "p.alm", "", "-o", "i.almx")])
def test_an_empty_path_is_not_the_folder_one_is_in(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """A shell gives one for a variable that is not set."""
    monkeypatch.chdir(folder)
    result = run(*words)
    assert (result.status, result.out) == (2, "")
    assert "it is empty" in told(result)


def test_a_folder_goes_first(run: Run, folder: Path) -> None:
    result = run("compare", "p.alm", folder / "0.wav", folder, "what differs?")
    assert result.status == 2
    assert "a folder goes first" in told(result)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("ask", "what?", "-o", "o.txt"), "'o.txt' does not end in .csv, .json, .jsonl"),
        (("embed", "-o", "o.txt"), "'o.txt' does not end in .almx, .csv, .json, .jsonl"),
        (("score", "--plot", "o.txt"), "'o.txt' does not end in .png, .svg, .pdf"),
    ],
)
def test_an_unknown_ending_is_refused_before_a_package_is_opened(
    run: Run, tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    command, *options = words
    result = run(command, "none.alm", tmp_path, *options)
    assert result.status == 2
    assert says in told(result)


@pytest.mark.parametrize("command", ["classify", "score"])
def test_workers_are_for_folders(run: Run, folder: Path, tiny_space: Export, command: str) -> None:
    package, labels = tiny_space("clap" if command == "classify" else "pam").path, ("a", "b") * (command == "classify")
    result = run(command, package, folder / "0.wav", *labels, "--workers", 2)
    assert (result.status, result.out) == (2, "")
    assert "--workers: it is for a folder" in told(result)


@pytest.mark.parametrize(("given", "expected"), [((), 1), (("--threads", 2), 2)])
def test_threads_that_are_named_count_in_a_folder_too(
    run: Run,
    folder: Path,
    tiny_space: Export,
    monkeypatch: pytest.MonkeyPatch,
    given: tuple[object, ...],
    expected: int,
) -> None:
    plain, seen = alm.load, []

    def load(*words: object, **options: object) -> object:
        seen.append(options["threads"])
        return plain(*words, **options)

    monkeypatch.setattr(alm, "load", load)
    assert run("score", tiny_space("pam").path, folder, *given).status == 0
    assert seen == [expected]


def test_an_empty_label_is_refused(run: Run, folder: Path, tiny_space: Export) -> None:
    result = run("classify", tiny_space("clap").path, folder / "0.wav", "rain", " ")
    assert (result.status, result.out) == (1, "")
    assert "found the labels ['rain', ' '], expected none of them empty" in told(result)


def test_what_is_no_index_is_not_to_be_deleted(run: Run, folder: Path) -> None:
    result = run("search", folder / "0.wav", "rain")
    assert result.status == 1
    assert "no usable index of sounds" in told(result)
    assert "name an index of 'alm embed', or delete a damaged one" in told(result)


def test_an_unknown_engine_lists_the_known(run: Run, package: Path, folder: Path) -> None:
    result = run("ask", package, folder / "0.wav", "what?", "--engine", "gguf")
    assert result.status == 1
    assert result.err == "alm: unknown engine 'gguf'; this version has onnxruntime, llama.cpp, executorch, fake\n"


def test_a_byte_that_is_not_utf8_stays_visible(run: Run, folder: Path, tiny_space: Export) -> None:
    (folder / "0.wav").rename(folder / os.fsdecode(b"r\xff.wav"))
    lines = run("score", tiny_space("pam").path, folder).out.splitlines()
    assert [line.split()[-1] for line in lines if "deep" not in line] == ["2.wav", "4.wav", "r?.wav"]


def shell(redirected: str, *words: object) -> subprocess.CompletedProcess[str]:
    """What `alm WORDS` does with its streams redirected by a shell."""
    command = [sys.executable, "-c", "from alm.commands import main; main()", *map(str, words)]
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirected}', "sh", *command], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("redirected", "words", "status", "out", "err"),
    [
        (">&-", ("inspect", "none.alm"), 1, "", "alm: standard output is closed; send it to a file, or to /dev/null\n"),
        ("2>&-", ("inspect", "none.alm"), 1, "", ""),
        ("<&-", ("inspect", "none.alm"), 1, "", "alm: none.alm cannot be read: No such file or directory\n"),
        (">&- 2>&-", ("inspect", "none.alm"), 1, "", ""),
    ],
)
def test_closed_streams_are_no_defect(redirected: str, words: tuple[str, ...], status: int, out: str, err: str) -> None:
    done = shell(redirected, *words)
    assert (done.returncode, done.stdout, done.stderr) == (status, out, err)


def test_a_closed_stderr_costs_no_answer(tiny_package: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", *noise(1), subtype="FLOAT")
    with_it = shell("", "ask", tiny_package, tmp_path / "a.wav", "what is it?")
    without = shell("2>&-", "ask", tiny_package, tmp_path / "a.wav", "what is it?")
    assert with_it.returncode == without.returncode == 0
    assert without.stdout == with_it.stdout


def test_ctrl_c_while_a_library_loads_is_no_missing_library(
    run: Run, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiled library turns it into an ImportError, which becomes a DependencyError."""

    def load(*_: object, **__: object) -> None:
        try:
            raise ImportError("initialization failed") from KeyboardInterrupt()
        except ImportError as error:
            raise alm.DependencyError("the engine needs a library that cannot be imported") from error

    monkeypatch.setattr(alm, "load", load)
    result = run("ask", package, "a.wav", "what?")
    assert (result.status, result.err) == (130, "")


def test_an_engine_is_one_of_each_to_verify(run: Run) -> None:
    assert "each of them" in " ".join(run("verify", "--help").out.split())
