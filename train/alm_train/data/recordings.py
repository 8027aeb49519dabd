"""Recordings listed in manifests, with the licence rule that decides which may be trained on.

A data folder holds one folder per corpus, each with `manifest.csv` and `audio/`. Weights that ship with this
repository may only be trained on CC0, CC BY and CC BY-SA recordings; everything else is for measuring.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from alm.errors import AlmError

FREE_LICENCES = frozenset({"CC0", "CC-BY", "CC-BY-SA"})
SPLITS = ("train", "val")


class DataError(AlmError):
    """A data folder or a manifest cannot be used."""


@dataclass(frozen=True)
class Recording:
    """One recorded clip of a corpus."""

    path: Path
    """The audio file."""
    label: str
    """What sounds in it: a key of `alm_train.data.sounds.SOUNDS`."""
    corpus: str
    """The corpus folder it comes from."""
    source: str
    """What it was cut from (a Freesound id, a speaker): train and val never share one."""
    split: str
    """`train` or `val`."""
    licence: str
    """Its own licence: CC0, CC-BY, CC-BY-SA, CC-BY-NC or CC-Sampling+."""
    author: str
    """Whom the licence asks to credit."""
    title: str
    """The title the author gave it."""

    @property
    def trainable(self) -> bool:
        """Whether weights trained on it may be shipped."""
        return self.licence in FREE_LICENCES


def read_recordings(data: Path, corpora: Iterable[str]) -> list[Recording]:
    """Read the manifests of `corpora` under `data`, checked so that train and val share no source.

    Raises DataError on an unknown corpus, a missing or malformed manifest, or a shared source.
    """
    recordings: list[Recording] = []
    for corpus in corpora:
        if corpus not in READERS:
            raise DataError(f"unknown corpus {corpus!r}; known corpora: {', '.join(sorted(READERS))}")
        folder = data / corpus
        recordings += [READERS[corpus](folder, row) for row in read_manifest(folder)]
    _refuse_shared_sources(recordings)
    return recordings


def training_set(recordings: Iterable[Recording]) -> list[Recording]:
    """The recordings that weights may be trained on: split `train` and a free licence."""
    return [r for r in recordings if r.split == "train" and r.trainable]


def validation_set(recordings: Iterable[Recording]) -> list[Recording]:
    """The held-out recordings, under any licence: nothing of them reaches the weights."""
    return [r for r in recordings if r.split == "val"]


def class_groups(data: Path) -> dict[str, set[str]]:
    """The classes of ESC-50 under each of its five groups, as its manifest lists them."""
    groups: dict[str, set[str]] = {}
    for row in read_manifest(data / "esc50"):
        groups.setdefault(row["group"], set()).add(row["label"])
    return groups


def _esc50(folder: Path, row: dict[str, str]) -> Recording:
    return Recording(
        path=folder / row["file"],
        label=row["label"],
        corpus="esc50",
        source=f"freesound:{row['freesound_id']}",
        split=row["split"],
        licence=row["source_licence"],
        author=row["source_author"],
        title=row["source_title"],
    )


HELD_OUT_DIGIT_SPEAKER = "theo"


def _fsdd(folder: Path, row: dict[str, str]) -> Recording:
    # The corpus' own split shares its speakers; holding a whole speaker out keeps sources apart.
    speaker = row["speaker"]
    return Recording(
        path=folder / row["file"],
        label="speech",
        corpus="fsdd",
        source=f"fsdd:{speaker}",
        split="val" if speaker == HELD_OUT_DIGIT_SPEAKER else "train",
        licence="CC-BY-SA",
        author="Zohar Jackson and the Free Spoken Digit Dataset contributors",
        title=f"{row['label']} spoken by {speaker}",
    )


def _codec_mushra(folder: Path, row: dict[str, str]) -> Recording:
    # Two talker databases: the talkers of one are trained on, those of the other are held out.
    signal = row["signal"]
    vctk = signal.startswith("VCTK")
    return Recording(
        path=folder / row["file"],
        label="speech",
        corpus="codec_mushra",
        source=f"codec_mushra:{signal}",
        split="train" if vctk else "val",
        licence="CC-BY",
        author="BenjSta/bernoulli-var-speech-codec; "
        + ("VCTK corpus, CSTR, University of Edinburgh" if vctk else "TSP speech database, McGill University"),
        title=f"{signal} through {row['system']}",
    )


READERS: dict[str, Callable[[Path, dict[str, str]], Recording]] = {
    "esc50": _esc50,
    "fsdd": _fsdd,
    "codec_mushra": _codec_mushra,
}


def read_manifest(folder: Path) -> list[dict[str, str]]:
    """Rows of a corpus' manifest; DataError when there are none."""
    manifest = folder / "manifest.csv"
    try:
        with manifest.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise DataError(f"no manifest at {manifest}; name the folder that holds the corpora with --data") from None
    if not rows:
        raise DataError(f"{manifest} lists no recordings")
    return rows


def _refuse_shared_sources(recordings: Iterable[Recording]) -> None:
    by_split: dict[str, set[str]] = {split: set() for split in SPLITS}
    for recording in recordings:
        if recording.split not in by_split:
            raise DataError(f"{recording.path}: split {recording.split!r}, expected one of {', '.join(SPLITS)}")
        by_split[recording.split].add(recording.source)
    shared = sorted(by_split["train"] & by_split["val"])
    if shared:
        raise DataError(f"{len(shared)} sources occur in both train and val, the first is {shared[0]}")
