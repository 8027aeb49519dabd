"""How commands work through a folder: results as they come, or in a file; what failed is said at the end."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alm.commands.output import print_json_line, printable

if TYPE_CHECKING:
    from alm.answering.answers import Answer
    from alm.results import Row

SHOWN = 20
"""Recordings that failed named before the rest is only counted."""


def check_ending(path: Path, endings: Sequence[str], option: str) -> None:
    """Wrong usage for a name whose ending says no format, before anything is loaded or heard."""
    if path.suffix not in endings:
        raise typer.BadParameter(f"{str(path)!r} does not end in {', '.join(endings)}", param_hint=option)


def _results_file(path: Path | None) -> Path | None:
    from alm.results import FORMATS

    if path is not None:
        check_ending(path, FORMATS, "--output")
    return path


Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="For a folder: results to this .csv, .json or .jsonl; a killed run goes on.",
        callback=_results_file,
    ),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Recordings of a folder at a time.", show_default="one per core")
]
Compat = Annotated[bool, typer.Option("--compat", help="Read sound as the authors' own loader does.")]


def threads_for(path: Path, threads: int | None) -> int | None:
    """Threads of the engine: unless told, one for each recording of a folder, because several are heard at a time."""
    return 1 if threads is None and path.is_dir() else threads


def only_for_folders(output: Path | None, workers: int | None = None) -> None:
    """Wrong usage when what is for folders is given with a single recording."""
    for option, value in {"--output": output, "--workers": workers}.items():
        if value is not None:
            raise typer.BadParameter("it is for a folder", param_hint=option)


def answers_over_folder(
    folder: Path, work: Callable[[Path], Answer], *, run: Mapping[str, Any], output: Path | None, json: bool
) -> None:
    """`over_folder` for models that tell: they take turns, so one recording has all threads while the next is read."""

    def row(source: Path) -> Row:
        answer = work(source)
        return {"text": answer.text, "finish_reason": answer.finish_reason, "windows": len(answer.windows)}

    over_folder(
        folder, row, lambda row: " ".join(str(row["text"]).split()), run=run, output=output, json=json, workers=2
    )


def over_folder(
    folder: Path,
    work: Callable[[Path], Row],
    show: Callable[[Row], str],
    *,
    run: Mapping[str, Any],
    output: Path | None,
    json: bool,
    workers: int | None,
) -> None:
    """Do `work` for every recording of a folder. With `output` the results go there and a run that was killed goes on;
    without, a line each to standard output, `show` of the row or JSON."""
    from alm.folder import each, find_recordings
    from alm.memory import return_large_blocks
    from alm.results import Results

    return_large_blocks()
    recordings = find_recordings(folder)
    if output is None:
        failed = []
        with counting(quiet=json or _piped()) as count:
            for number, done in enumerate(each(recordings, work, workers=workers), 1):
                if done.result is None:
                    failed.append((done.recording.name, done.error))
                elif json:
                    print_json_line({"file": done.recording.name, **done.result})
                else:
                    print(printable(f"{show(done.result)}  {done.recording.name}"), flush=True)
                count(number, len(recordings))
    else:
        with Results(output, {**run, "folder": str(folder.resolve())}) as results:
            todo = results.missing(recordings)
            with counting(quiet=json) as count:
                for number, done in enumerate(each(todo, work, workers=workers), len(recordings) - len(todo) + 1):
                    results.add(done)
                    count(number, len(recordings))
            results.finish()
        failed = results.failed
        if json:
            print_json_line({"results": str(output), "recordings": len(recordings), "failed": len(failed)})
    tell_failed(failed, len(recordings))


def tell_failed(failed: Sequence[tuple[str, str]], total: int) -> None:
    """Say on stderr which recordings could not be used. AudioError when none could."""
    if not failed:
        return
    if len(failed) == total:
        from alm.errors import AudioError

        raise AudioError(f"none of the {total} recordings could be used; the first: {failed[0][0]}: {failed[0][1]}")
    print(f"alm: {len(failed)} of {total} recordings could not be used:", file=sys.stderr)
    for name, reason in failed[:SHOWN]:
        print(printable(f"  {name}: {' '.join(reason.split())}"), file=sys.stderr)
    if len(failed) > SHOWN:
        print(f"  and {len(failed) - SHOWN} more", file=sys.stderr)


@contextmanager
def counting(*, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A function of (done, total) that moves a bar on stderr while a terminal is there to see it."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("listening"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Lines for the same terminal go above the bar; those for a file are not rich's to take.
    above = sys.stdout.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=above) as progress:
        task = progress.add_task("listening", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _piped() -> bool:
    """Whether standard output goes to another program, which may write to the same terminal and into a bar."""
    return stat.S_ISFIFO(os.fstat(1).st_mode)
