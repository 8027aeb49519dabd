"""Sounds the recipe makes itself: free of any licence, and with exactly known content."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


def synthesise(label: str, seed: int, samples: int, sample_rate: int) -> Samples:
    """A (samples,) float32 clip of the synthetic sound `label`, the same for the same seed."""
    rng = np.random.default_rng([seed, *label.encode()])
    time = np.arange(samples) / sample_rate
    signal = _MAKERS[label](rng, time)
    peak = np.abs(signal).max()
    level = 10 ** (rng.uniform(-26, -2) / 20)
    if peak > 0:
        signal = signal / peak * level
    floor = 10 ** (rng.uniform(-95, -65) / 20)
    return (signal + floor * rng.standard_normal(samples)).astype(np.float32)


def _phase(frequency: NDArray, time: NDArray) -> NDArray:
    return 2 * np.pi * np.cumsum(frequency) * (time[1] - time[0])


def _timbre(rng: np.random.Generator, phase: NDArray) -> NDArray:
    """A tone with up to four partials."""
    weights = rng.uniform(0, 0.5, size=4) ** 2
    return np.sin(phase) + sum(w * np.sin(k * phase) for k, w in enumerate(weights, start=2))


def _pitch(rng: np.random.Generator, low: float = 150, high: float = 5000) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _pure_tone(rng: np.random.Generator, time: NDArray) -> NDArray:
    return _timbre(rng, 2 * np.pi * _pitch(rng) * time)


def _beeps(rng: np.random.Generator, time: NDArray) -> NDArray:
    period, duty = rng.uniform(0.2, 1.2), rng.uniform(0.2, 0.7)
    gate = ((time + rng.uniform(0, period)) % period) < duty * period
    return _timbre(rng, 2 * np.pi * _pitch(rng, 500, 4000) * time) * gate


def _sweep(rng: np.random.Generator, time: NDArray, rising: bool) -> NDArray:
    """One or more glides, each at least one octave."""
    period = time[-1] / rng.integers(1, 4)
    low = _pitch(rng, 150, 1200)
    octaves = rng.uniform(1, 3)
    position = (time % period) / period
    return _timbre(rng, _phase(low * 2 ** (octaves * (position if rising else 1 - position)), time))


def _warble(rng: np.random.Generator, time: NDArray) -> NDArray:
    rate, depth = rng.uniform(2, 9), rng.uniform(0.05, 0.3)
    return _timbre(rng, _phase(_pitch(rng, 300, 3000) * (1 + depth * np.sin(2 * np.pi * rate * time)), time))


def _noise(rng: np.random.Generator, time: NDArray, slope: float) -> NDArray:
    """Gaussian noise whose amplitude falls as frequency to the power `slope`."""
    spectrum = np.fft.rfft(rng.standard_normal(time.size))
    frequency = np.fft.rfftfreq(time.size, time[1] - time[0])
    return np.fft.irfft(spectrum / np.maximum(frequency, 20.0) ** slope, time.size)


def _buzz(rng: np.random.Generator, time: NDArray) -> NDArray:
    """A band-limited sawtooth at a mains-like pitch, with every partial up to 8 kHz."""
    pitch, tilt = rng.uniform(45, 240), rng.uniform(0.6, 1.2)
    partials = np.arange(1, int(8000 / pitch))
    return sum(np.sin(2 * np.pi * pitch * k * time + rng.uniform(0, 6.3)) / k**tilt for k in partials)


_MAKERS: dict[str, Callable[[np.random.Generator, NDArray], NDArray]] = {
    "pure_tone": _pure_tone,
    "beeps": _beeps,
    "rising_sweep": lambda rng, time: _sweep(rng, time, rising=True),
    "falling_sweep": lambda rng, time: _sweep(rng, time, rising=False),
    "warble": _warble,
    "white_noise": lambda rng, time: _noise(rng, time, slope=rng.uniform(-0.05, 0.1)),
    "brown_noise": lambda rng, time: _noise(rng, time, slope=rng.uniform(0.9, 1.3)),
    "buzz": _buzz,
    "silence": lambda rng, time: np.zeros_like(time),
}
