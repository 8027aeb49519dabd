"""Mel bands on Slaney's scale: linear below 1 kHz (3 mel per 200 Hz), logarithmic above (27 mel per factor 6.4)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LINEAR_HZ, KNEE_HZ, LOG_STEP = 200.0 / 3, 1000.0, np.log(6.4) / 27.0
KNEE_MEL = KNEE_HZ / LINEAR_HZ


def mel_bank(sample_rate: float, n_fft: int, mels: int, fmin: float, fmax: float) -> NDArray[np.float32]:
    """Triangles of equal area from `fmin` to `fmax` Hz, shape (n_fft // 2 + 1, mels), as librosa has them."""
    bins = np.linspace(0.0, sample_rate / 2, n_fft // 2 + 1)
    edges = _mel_to_hz(np.linspace(_hz_to_mel(fmin), _hz_to_mel(fmax), mels + 2))
    rising = (bins[:, None] - edges[None, :-2]) / np.diff(edges)[None, :-1]
    falling = (edges[None, 2:] - bins[:, None]) / np.diff(edges)[None, 1:]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return (triangles * (2.0 / (edges[2:] - edges[:-2]))[None, :]).astype(np.float32)


def _hz_to_mel(hz: float) -> float:
    return float(hz / LINEAR_HZ if hz < KNEE_HZ else KNEE_MEL + np.log(hz / KNEE_HZ) / LOG_STEP)


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(mel < KNEE_MEL, mel * LINEAR_HZ, KNEE_HZ * np.exp(LOG_STEP * (mel - KNEE_MEL)))
