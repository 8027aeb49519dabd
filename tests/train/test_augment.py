"""Augmentation of log-mels."""

from __future__ import annotations

import pytest
import torch

from alm_train.augment import FLOOR_DB, Augmentation, augment

STILL = Augmentation(
    mixup=0, background=0, gain_db=0, equaliser_db=0, lowpass=0, time_masks=0, mel_masks=0
)  # only the time roll is left


def _batch(count: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(count, 101, 64, generator=generator) * 15 - 40, torch.eye(count)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_generator_decides_everything() -> None:
    log_mel, targets = _batch()
    first, again, other = (augment(log_mel, targets, Augmentation(), _generator(s)) for s in (1, 1, 2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_a_roll_only_moves_frames_around() -> None:
    log_mel, targets = _batch()
    rolled, kept = augment(log_mel, targets, STILL, _generator(1))
    assert torch.equal(kept, targets)
    assert not torch.allclose(rolled, log_mel, atol=1e-3)
    assert torch.allclose(rolled.sort(1).values, log_mel.sort(1).values, atol=1e-3)


def test_mixing_keeps_targets_a_distribution_and_the_louder_label_first() -> None:
    log_mel, targets = _batch()
    _, mixed = augment(log_mel, targets, Augmentation(mixup=1.0), _generator(3))
    assert torch.allclose(mixed.sum(1), torch.ones(8))
    assert torch.equal(mixed.argmax(1), targets.argmax(1))
    assert (mixed.max(1).values < 0.999).any()


def test_a_background_leaves_the_label_and_changes_the_clip() -> None:
    log_mel, targets = _batch()
    settings = Augmentation(**{**vars(STILL), "background": 1.0, "background_db": (-12.0, -12.0)})
    changed, kept = augment(log_mel, targets, settings, _generator(1))
    plain, _ = augment(log_mel, targets, STILL, _generator(1))
    assert torch.equal(kept, targets)
    assert (changed >= plain - 1e-3).all() and (changed > plain + 0.5).any()


@pytest.mark.parametrize("level", [FLOOR_DB, 40.0])
def test_extreme_clips_stay_finite(level: float) -> None:
    log_mel = torch.full((4, 101, 64), level)
    changed, _ = augment(log_mel, torch.eye(4), Augmentation(), _generator(1))
    assert torch.isfinite(changed).all() and (changed >= FLOOR_DB).all()


def test_masks_cover_whole_frames_and_bands() -> None:
    log_mel, targets = _batch()
    settings = Augmentation(**{**vars(STILL), "time_masks": 1, "time_width": 50})
    masked, _ = augment(log_mel, targets, settings, _generator(1))
    constant = (masked.std(2) == 0).sum(1)
    assert constant.max() > 0 and constant.max() <= 50
