"""Text about sounds under free licences, as groups of texts that mean the same clip or the same kind of sound.

Restyled captions (CDLA-Permissive 2.0), entailed hypotheses (MIT) and the AudioSet ontology (CC BY-SA 4.0). No
recording stands behind any of it: it teaches the text tower which words belong together.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

from alm_train.data.recordings import DataError

STYLES = ("humorous", "uplifting")
STYLED = Path("text/noaudio_style")
ENTAILED = Path("text/audio_entailment")
ONTOLOGY = Path("text/audioset_ontology/ontology.json.gz")
CLOTHO = {"train": "development", "val": "validation"}
"""What Clotho calls its splits."""
CLOTHO_COLUMNS = tuple(f"style_caption_{n}" for n in range(1, 6))

Group = tuple[str, ...]
"""Texts that mean the same; at least two."""


def caption_groups(data: Path, split: str) -> list[Group]:
    """Captions of one clip each, `split` train or val: both styles, and what follows from its plain caption.

    Raises DataError when a file is missing or lacks a column.
    """
    clips: dict[str, list[str]] = {}
    for style in STYLES:
        for clip, texts in _styled(data, style, split).items():
            clips.setdefault(clip, []).extend(texts)
    file = data / ENTAILED / f"clotho_entailment_{CLOTHO[split]}.csv"
    for row in read_table(file, ("Audio file", "Entailment")):
        clips.setdefault(f"clotho:{row['Audio file']}", []).append(row["Entailment"])
    return [group for texts in clips.values() if len(group := _plain(texts)) > 1]


def styled_captions(data: Path, style: str, split: str) -> list[str]:
    """Every caption of one of `STYLES`, `split` train or val, in lower case. Raises DataError as `caption_groups`."""
    return [text for texts in _styled(data, style, split).values() for text in texts]


def _styled(data: Path, style: str, split: str) -> dict[str, list[str]]:
    """Captions of one style by clip."""
    clips: dict[str, list[str]] = {}
    file = data / STYLED / style / f"audiocaps_style_{split}.csv"
    for row in read_table(file, ("audiocap_id", "style_caption")):
        clips.setdefault(f"audiocaps:{row['audiocap_id']}", []).append(row["style_caption"])
    file = data / STYLED / style / f"clotho_captions_style_{CLOTHO[split]}.csv"
    for row in read_table(file, ("file_name", *CLOTHO_COLUMNS)):
        clips.setdefault(f"clotho:{row['file_name']}", []).extend(row[c] for c in CLOTHO_COLUMNS)
    return {clip: list(_plain(texts)) for clip, texts in clips.items()}


def ontology_groups(data: Path) -> list[Group]:
    """Names of every kind of sound in the AudioSet ontology, and last the first sentence of its description."""
    file = data / ONTOLOGY
    try:
        with gzip.open(file, "rt", encoding="utf-8") as opened:
            classes = json.load(opened)
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    groups = (
        _plain([entry["name"], *entry["name"].split(", "), entry["description"].split(". ")[0]]) for entry in classes
    )
    return [group for group in groups if len(group) > 1]


def read_table(file: Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Rows of a CSV file, stored plain or as `.gz`."""
    packed = file.with_name(file.name + ".gz")
    try:
        with (
            gzip.open(packed, "rt", encoding="utf-8", newline="")
            if packed.exists()
            else file.open(encoding="utf-8", newline="") as opened
        ):
            rows = csv.DictReader(opened)
            missing = set(columns) - set(rows.fieldnames or ())
            if missing:
                raise DataError(f"{file} lacks the columns {', '.join(sorted(missing))}")
            yield from rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} cannot be read: {error}") from error


def _plain(texts: list[str]) -> Group:
    """Lower case, no surrounding space, no empty text, each once."""
    return tuple(dict.fromkeys(cleaned for text in texts if (cleaned := " ".join(text.lower().split()))))
