"""Augmentation of log-mels: time roll, background mixes, mixup, equaliser, gain, SpecAugment.

Sounds add in power, so mixes are made there: two clips mixed here look like two clips mixed as waveforms, up
to the interference between them, and cost a few per cent of a transform. Sources: mixup (Zhang et al. 2018),
between-class learning (Tokozume et al. 2018) for mixing at equal loudness, SpecAugment (Park et al. 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FLOOR_DB = -100.0


@dataclass(frozen=True)
class Augmentation:
    """How strongly a batch is changed. All randomness comes from the generator that is handed over."""

    mixup: float = 1.0
    """Alpha of the Beta distribution of the mixing weight; 0 mixes nothing."""
    background: float = 0.3
    """Chance that another clip of the batch is laid quietly under a clip, its label unchanged."""
    background_db: tuple[float, float] = (-30.0, -10.0)
    """Level of that clip against the first."""
    gain_db: float = 10.0
    """Largest gain or cut."""
    equaliser_db: float = 6.0
    """Largest change of a random smooth equaliser."""
    lowpass: float = 0.1
    """Chance that the upper bands are cut off, as in a recording of low bandwidth."""
    time_masks: int = 2
    """Masked stretches of time."""
    time_width: int = 60
    """Longest masked stretch, in frames."""
    mel_masks: int = 2
    """Masked groups of bands."""
    mel_width: int = 10
    """Widest masked group, in bands."""


def augment(
    log_mel: Tensor, targets: Tensor, settings: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Change a batch of log-mels (B, T, mels) in dB and mix its targets (B, classes) alike; same shapes."""
    power = 10 ** (_roll(log_mel, generator) / 10)
    power = _background(power, settings, generator)
    power, targets = _mixup(power, targets, settings.mixup, generator)
    changed = 10 * power.clamp(min=1e-10).log10()
    changed = changed + _equaliser(changed, settings, generator)
    changed = _lowpass(changed, settings.lowpass, generator).clamp(min=FLOOR_DB)
    changed = _mask(changed, 1, settings.time_masks, settings.time_width, generator)
    return _mask(changed, 2, settings.mel_masks, settings.mel_width, generator), targets


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def _roll(log_mel: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each clip along time, around the end."""
    frames = log_mel.shape[1]
    shift = torch.randint(frames, (len(log_mel), 1), generator=generator)
    index = (torch.arange(frames) + shift) % frames
    return log_mel.gather(1, index.unsqueeze(-1).expand_as(log_mel))


def _background(power: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    batch = len(power)
    level = 10 ** (_uniform((batch, 1, 1), *settings.background_db, generator) / 10)
    chosen = torch.rand(batch, 1, 1, generator=generator) < settings.background
    other = power[torch.randperm(batch, generator=generator)]
    return power + chosen * level * other * (_loudness(power) / _loudness(other))


def _mixup(power: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    if alpha == 0:
        return power, targets
    batch = len(power)
    gammas = torch._standard_gamma(torch.full((2, batch), alpha), generator=generator)
    share = gammas[0] / gammas.sum(0).clamp(min=1e-8)
    share = torch.maximum(share, 1 - share)
    order = torch.randperm(batch, generator=generator)
    other = power[order] * (_loudness(power) / _loudness(power[order]))
    weight = share[:, None, None]
    # The ear and a dB scale go by amplitude ratios, so the weights of the powers are squared.
    mixed = (weight**2 * power + (1 - weight) ** 2 * other) / (weight**2 + (1 - weight) ** 2)
    return mixed, share[:, None] * targets + (1 - share[:, None]) * targets[order]


def _loudness(power: Tensor) -> Tensor:
    """(B, 1, 1) mean power, kept away from zero for digital silence."""
    return power.mean((1, 2), keepdim=True).clamp(min=1e-9)


def _equaliser(log_mel: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    """(B, 1, mels) dB: one gain per clip plus a curve through five random points."""
    batch, _, mels = log_mel.shape
    points = _uniform((batch, 1, 5), -settings.equaliser_db, settings.equaliser_db, generator)
    curve = torch.nn.functional.interpolate(points, mels, mode="linear", align_corners=True)
    return curve + _uniform((batch, 1, 1), -settings.gain_db, settings.gain_db, generator)


def _lowpass(log_mel: Tensor, chance: float, generator: torch.Generator) -> Tensor:
    batch, _, mels = log_mel.shape
    edge = torch.randint(mels // 2, mels, (batch, 1, 1), generator=generator)
    chosen = torch.rand(batch, 1, 1, generator=generator) < chance
    return log_mel - 60.0 * (chosen & (torch.arange(mels) >= edge))


def _mask(log_mel: Tensor, axis: int, count: int, width: int, generator: torch.Generator) -> Tensor:
    """Set `count` random stretches along `axis` to the mean of their clip."""
    batch, length = len(log_mel), log_mel.shape[axis]
    places = torch.arange(length)
    masked = torch.zeros(batch, length, dtype=torch.bool)
    for _ in range(count):
        size = torch.randint(width + 1, (batch, 1), generator=generator)
        start = torch.randint(length, (batch, 1), generator=generator)
        masked |= (places >= start) & (places < start + size)
    masked = masked.unsqueeze(2 if axis == 1 else 1)
    return torch.where(masked, log_mel.mean((1, 2), keepdim=True), log_mel)
