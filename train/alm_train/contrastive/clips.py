"""The clips of a run: what is heard, what is held out, and what is kept out of it entirely."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alm_train.contrastive.recipe import ClapRecipe
from alm_train.contrastive.spoilt import Spoilt, build_spoilt
from alm_train.contrastive.wording import held_out_labels
from alm_train.data.library import Library, build_library, recorded_clips, synthetic_clips
from alm_train.data.measured import read_measured
from alm_train.data.recordings import Recording, class_groups, read_recordings, training_set, validation_set
from alm_train.data.sounds import LABELS
from alm_train.run import HELD_OUT_SEEDS, Reporter


@dataclass(frozen=True)
class ClapClips:
    """Everything that is heard in a run."""

    recordings: list[Recording]
    """Recordings that were trained on."""
    train: Library
    """Their clips, and synthetic ones."""
    spoilt: Spoilt
    """Spoilt copies of `train`."""
    held_out: Library
    """Clips of other sources, also of the classes that were kept out and of corpora that are only measured."""
    held_out_spoilt: Spoilt
    """One spoilt copy of each of `held_out`."""
    seen: tuple[str, ...]
    """Classes of the training clips."""
    unseen: tuple[str, ...]
    """Classes that no training clip and no wording is of."""


def gather_clips(recipe: ClapRecipe, data: Path, cache: Path, reporter: Reporter) -> ClapClips:
    """Read the manifests under `data` and build or load every log-mel of the run."""
    section = recipe.data
    recordings = read_recordings(data, section.corpora)
    unseen = held_out_labels(class_groups(data), section.held_out_per_group)
    chosen = [r for r in training_set(recordings) if r.label not in unseen]
    train = recorded_clips(chosen, section.per_source) + synthetic_clips(section.synthetic, 0)
    held_out = recorded_clips(validation_set(recordings), section.per_source)
    held_out += synthetic_clips(section.synthetic_held_out, HELD_OUT_SEEDS)
    held_out += [clip for corpus in section.ranked for clip in read_measured(data, corpus)]
    used = {clip.path for clip in train}
    with reporter.bar("decode training clips") as progress:
        library = build_library(train, section.speeds, recipe.frontend, cache, progress)
    with reporter.bar("spoil training clips") as progress:
        spoilt = build_spoilt(train, section.spoilt, recipe.frontend, cache, progress)
    with reporter.bar("decode held-out clips") as progress:
        held_out_library = build_library(held_out, (1.0,), recipe.frontend, cache, progress)
    with reporter.bar("spoil held-out clips") as progress:
        held_out_spoilt = build_spoilt(held_out, 1, recipe.frontend, cache, progress)
    labels = {clip.label for clip in train}
    return ClapClips(
        recordings=[r for r in chosen if r.path in used],
        train=library,
        spoilt=spoilt,
        held_out=held_out_library,
        held_out_spoilt=held_out_spoilt,
        seen=tuple(label for label in LABELS if label in labels),
        unseen=unseen,
    )
