"""The task files of a folder, recognised by their columns, as items.

A file is CSV or JSON, plain or gzip-compressed. The columns of each format are those that its authors publish; a folder
may hold any number of files of any format.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from alm_bench.quality import formats
from alm_bench.quality.items import Item, TaskError

Row = Mapping[str, Any]

SUFFIXES = (".csv", ".json", ".csv.gz", ".json.gz")


@dataclass(frozen=True)
class Format:
    """One published layout."""

    name: str
    """What it is called in messages."""
    columns: frozenset[str]
    """Columns that no other format has together."""
    read: Callable[[str, Sequence[Row]], Iterator[Item]]
    """File name and rows to items."""
    captions: bool = False
    """Whether its answers are captions that people wrote."""


FORMATS = (
    Format("Audio Entailment", frozenset({"Audio file", "Entailment", "Neutral", "Contradiction"}), formats.entailment),
    Format("MMAU", frozenset({"audio_id", "question", "choices", "answer"}), formats.mmau),
    Format("ReasonAQA or ADIFF", frozenset({"filepath1", "filepath2", "input", "answer"}), formats.reason_aqa),
    Format("Clotho captions", frozenset({"file_name", "caption_1", "caption_5"}), formats.clotho, captions=True),
    Format("AudioCaps captions", frozenset({"youtube_id", "caption"}), formats.audiocaps, captions=True),
)


@dataclass(frozen=True)
class TaskFolder:
    """What a folder holds."""

    items: tuple[Item, ...]
    """The examples of every file."""
    files: dict[str, str]
    """Format by file name."""
    ignored: tuple[str, ...]
    """CSV and JSON files that are in no known format."""


def read_folder(folder: Path) -> TaskFolder:
    """Read the task files directly in `folder`.

    Raises TaskError when there is none, or a file of a known format has a row that does not fit it.
    """
    if not folder.is_dir():
        raise TaskError(f"{folder} is not a folder; pass the one that holds the task files and the audio")
    items: list[Item] = []
    files: dict[str, str] = {}
    ignored: list[str] = []
    for path in sorted(path for path in folder.iterdir() if path.name.lower().endswith(SUFFIXES)):
        rows = read_rows(path)
        found = next((f for f in FORMATS if rows and isinstance(rows[0], dict) and f.columns <= rows[0].keys()), None)
        if found is None:
            ignored.append(path.name)
            continue
        files[path.name] = found.name
        try:
            items.extend(found.read(path.name, rows))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the row"
            raise TaskError(
                f"{path}: a row does not fit the {found.name} format: {where}: {first['msg']} "
                f"(found {str(first['input'])[:80]!r}). Take the file from its authors again"
            ) from None
    if not items:
        known = "; ".join(f"{f.name}: {', '.join(sorted(f.columns))}" for f in FORMATS)
        raise TaskError(f"{folder} holds no task file with examples. Known formats and their columns: {known}")
    return TaskFolder(tuple(items), files, tuple(ignored))


def read_rows(path: Path) -> list[Any]:
    """The rows of a CSV file, or the entries of a JSON list."""
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
        if ".json" in path.suffixes:
            found = json.loads(text)
            return found if isinstance(found, list) else [found]
        return list(csv.DictReader(io.StringIO(text, newline="")))
    except (OSError, EOFError, UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise TaskError(f"{path} cannot be read: {error}. Take the file from its authors again") from error


def captions_of(path: Path) -> list[str]:
    """Every caption of a caption file. TaskError for a file of another format."""
    rows = read_rows(path)
    for found in FORMATS:
        if rows and isinstance(rows[0], dict) and found.columns <= rows[0].keys() and found.captions:
            return [caption for item in found.read(path.name, rows) for caption in item.answers]
    kinds = "; ".join(f"{f.name}: {', '.join(sorted(f.columns))}" for f in FORMATS if f.captions)
    raise TaskError(f"{path} is no file of captions. Known formats and their columns: {kinds}")
