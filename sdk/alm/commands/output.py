"""How commands speak: JSON for programs, tables and streamed text for people, progress on stderr."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alm.answering.streaming import AnswerStream

PIPE_WIDTH = 10_000


def print_json(value: Any) -> None:
    """Print a value as one JSON document; dataclasses become objects."""
    print(json.dumps(value, default=_plain, indent=2, allow_nan=False))


def print_json_line(value: Any) -> None:
    """Print a value as JSON on a line of its own, at once."""
    print(json.dumps(value, default=_plain, allow_nan=False), flush=True)


def print_rows(rows: Sequence[tuple[str, ...]], header: tuple[str, ...] = ()) -> None:
    """Print a table; its cells are shown as they are, without markup."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*header, box=box.SIMPLE_HEAD if header else None, show_header=bool(header), pad_edge=False)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    if sys.stdout.isatty():
        Console(highlight=False).print(table)
        return
    # A pipe has no width: what reads it gets one line per row, without the spaces that fill a column.
    console = Console(highlight=False, width=PIPE_WIDTH)
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def print_answer(stream: AnswerStream, spans: tuple[tuple[float, float], ...]) -> None:
    """Print an answer: piece by piece on a terminal, else the whole text once it is complete."""
    if not sys.stdout.isatty():
        print(printable(stream.finish().text.strip()))
        return
    current = -1
    for piece in stream:
        if piece.window != current and len(spans) > 1:
            start, end = spans[piece.window]
            print("" if current < 0 else "\n", f"[{start:.1f} - {end:.1f} s] ", sep="", end="")
        current = piece.window
        print(printable(piece.text), end="", flush=True)
    print()


@contextmanager
def hearing(recording: str, quiet: bool) -> Iterator[Callable[[float], None] | None]:
    """A progress callback for `listen` that draws a bar on stderr while a terminal is there to see it."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("listening"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("listening", total=_seconds(recording))
        yield lambda seconds: progress.update(task, completed=seconds)


def printable(text: str) -> str:
    """The text with what stdout cannot encode replaced, and without control characters that move a cursor."""
    # A lone surrogate stands for a byte of a name that is not UTF-8; encoding makes it a question mark.
    text = "".join(c for c in text if c.isprintable() or c in "\n\t" or "\ud800" <= c <= "\udfff")
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, errors="replace").decode(encoding)


def _seconds(recording: str) -> float | None:
    """What the file says of its length; None, a bar that only moves, when it does not say."""
    import soundfile

    try:
        return float(soundfile.info(recording).duration)
    except (RuntimeError, OSError, TypeError):
        return None


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
