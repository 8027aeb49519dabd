"""What the second stage hears: embeddings of clips by the frozen audio tower, as recorded and changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from alm_train.augment import augment
from alm_train.captioner.recipe import HeardSection
from alm_train.captioner.texts import caption_of
from alm_train.captioner.writing import Captions, caption_ids
from alm_train.contrastive.wording import held_out_labels
from alm_train.data.library import Library, Progress, build_library, recorded_clips, synthetic_clips
from alm_train.data.recordings import Recording, class_groups, read_recordings, training_set, validation_set
from alm_train.data.sounds import LABELS
from alm_train.models.clap import AudioTower, Clap
from alm_train.models.frontend import FrontendConfig
from alm_train.models.two_towers import unit
from alm_train.run import HELD_OUT_SEEDS, Reporter
from alm_train.tagging import half_precision, targets_of


@dataclass(frozen=True)
class HeardClips:
    """The clips of a run."""

    recordings: list[Recording]
    """Recordings that were trained on."""
    train: Library
    """Their clips, and synthetic ones."""
    held_out: Library
    """Clips of other sources, also of the classes that were kept out."""
    seen: tuple[str, ...]
    """Classes of the training clips."""
    unseen: tuple[str, ...]
    """Classes that no training clip is of."""


def gather(section: HeardSection, data: Path, frontend: FrontendConfig, cache: Path, reporter: Reporter) -> HeardClips:
    """Read the manifests under `data` and build or load every log-mel of the run."""
    recordings = read_recordings(data, section.corpora)
    unseen = held_out_labels(class_groups(data), section.held_out_per_group)
    chosen = [r for r in training_set(recordings) if r.label not in unseen]
    train = recorded_clips(chosen, section.per_source) + synthetic_clips(section.synthetic, 0)
    held_out = recorded_clips(validation_set(recordings), section.per_source)
    held_out += synthetic_clips(section.synthetic_held_out, HELD_OUT_SEEDS)
    used, labels = {clip.path for clip in train}, {clip.label for clip in train}
    with reporter.bar("decode training clips") as progress:
        library = build_library(train, section.speeds, frontend, cache, progress)
    with reporter.bar("decode held-out clips") as progress:
        held_out_library = build_library(held_out, (1.0,), frontend, cache, progress)
    return HeardClips(
        recordings=[r for r in chosen if r.path in used],
        train=library,
        held_out=held_out_library,
        seen=tuple(label for label in LABELS if label in labels),
        unseen=unseen,
    )


def heard_captions(
    section: HeardSection,
    clips: HeardClips,
    clap: Clap,
    tokenizer: Tokenizer,
    seed: int,
    file: Path,
    reporter: Reporter,
) -> Captions:
    """What is heard of the training clips, each class equally often; `file` keeps the embeddings."""
    if not file.exists():
        with reporter.bar("listen to training clips") as progress:
            kept = _hear(section, clips.train, clap.audio_encoder, seed, progress)
        partial = file.with_suffix(".partial")
        save_file({"vectors": kept}, partial)
        partial.replace(file)
    vectors = load_file(file)["vectors"]
    labels = clips.train.labels
    rows = np.array([[_row(labels, label, n, len(vectors)) for n in range(section.per_class)] for label in clips.seen])
    ids = caption_ids(tokenizer, [caption_of(label) for label in clips.seen], clap.config, clap.config.text_tokens)
    view, clip = torch.from_numpy(rows.reshape(-1, 2)).T
    return Captions(ids.repeat_interleave(section.per_class, 0), vectors[view, clip])


def _row(labels: list[str], label: str, number: int, views: int) -> tuple[int, int]:
    """View and clip of the `number`-th embedding of a class: every clip once, then the next view."""
    members = [place for place, found in enumerate(labels) if found == label]
    lap, place = divmod(number, len(members))
    return lap % views, members[place]


@torch.inference_mode()
def _hear(section: HeardSection, library: Library, tower: AudioTower, seed: int, progress: Progress) -> Tensor:
    """(views, clips, embedding) unit vectors: the first view as recorded, the others augmented at random speeds."""
    tower.eval()
    settings, count = section.augmentation.settings(), len(library.clips)
    out = torch.empty(section.views, count, tower.projection.linear2.out_features)
    for view in range(section.views):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + view)
        for clips in torch.randperm(count, generator=generator).split(64):  # so that backgrounds come from any class
            speeds = torch.randint(len(library.speeds), (len(clips),), generator=generator) if view else 0
            log_mel = library.log_mels[speeds, clips].float()
            if view:
                log_mel, _ = augment(log_mel, targets_of(library, clips.tolist()), settings, generator)
            out[view, clips] = embed(tower, log_mel)
        progress(view + 1, section.views)
    return out


def embed(tower: AudioTower, log_mel: Tensor) -> Tensor:
    """(B, T, mels) to (B, embedding) unit vectors."""
    with half_precision():
        return unit(tower.projection(tower.base.htsat.encode(log_mel).latent).float())
