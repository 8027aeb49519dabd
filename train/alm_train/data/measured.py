"""Recordings that are only measured with: their licences, or their use as a yardstick, keep them out of any weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from alm_train.data.library import Clip
from alm_train.data.recordings import DataError, read_manifest

LISTENED = "codec_mushra"
"""Corpus with listening scores."""
Row = dict[str, str]


def read_measured(data: Path, corpus: str) -> list[Clip]:
    """The clips of a corpus under `data`, labelled in its own words.

    Raises DataError on an unknown corpus or a missing manifest.
    """
    if corpus not in CORPORA:
        raise DataError(f"unknown corpus {corpus!r}; corpora to measure with: {', '.join(sorted(CORPORA))}")
    kept, label, source = CORPORA[corpus]
    rows = read_manifest(data / corpus)
    return [Clip(label(r), f"{corpus}:{source(r)}", corpus, data / corpus / r["file"]) for r in rows if kept(r)]


def listening_scores(data: Path) -> list[tuple[Path, float]]:
    """Every rated clip of `LISTENED` and the mean of its MUSHRA ratings, 0 to 100."""
    rows = read_manifest(data / LISTENED)
    return [(data / LISTENED / r["file"], float(r["mean_rating"])) for r in rows if int(r["n_ratings"])]


CORPORA: dict[str, tuple[Callable[[Row], bool], Callable[[Row], str], Callable[[Row], str]]] = {
    "us8k_fold1": (lambda r: True, lambda r: r["label"], lambda r: r["freesound_id"]),
    "us8k_fold2": (lambda r: True, lambda r: r["label"], lambda r: r["freesound_id"]),
    "ravdess": (lambda r: r["split"] == "val", lambda r: r["label"], lambda r: f"actor {r['actor']}"),
    "tess_oaf": (lambda r: True, lambda r: r["label"], lambda r: r["speaker"]),
    "urdu_dev": (lambda r: True, lambda r: r["label"], lambda r: r["speaker"]),
    LISTENED: (lambda r: r["condition"] == "Reference", lambda r: "speech", lambda r: r["signal"]),
}
"""Which rows of a corpus are clips, what they are called, and where they come from. Of `LISTENED` these are the
recordings before any codec."""
