"""Who made the recordings that weights were trained on."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from alm_train.data.recordings import Recording

FREESOUND = "https://freesound.org/s/{}/"
"""Where a recording of Freesound is, by its number."""


def write_credits(file: Path, trained_on: Sequence[Recording]) -> None:
    """One row per recording: licence, author, title and where it came from."""
    with file.open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(("corpus", "file", "label", "licence", "author", "title", "source"))
        for r in trained_on:
            site, _, number = r.source.partition(":")
            source = FREESOUND.format(number) if site == "freesound" else r.source
            rows.writerow((r.corpus, r.path.name, r.label, r.licence, r.author, r.title, source))
