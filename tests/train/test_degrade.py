"""Ways to spoil a recording: each does what its words say, at the loudness of the original."""

from __future__ import annotations

import numpy as np
import pytest

from alm_train.contrastive.degrade import DEGRADATIONS, degrade
from alm_train.data.synthetic import synthesise

RATE = 32000


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    """Beeps over faint noise, with energy up to several kHz."""
    return synthesise("beeps", 5, 2 * RATE, RATE)


def _spoil(kind: str, clip: np.ndarray, seed: int = 0) -> np.ndarray:
    return degrade(kind, clip, RATE, np.random.default_rng(seed))


def _high_share(clip: np.ndarray, above: float) -> float:
    power = np.abs(np.fft.rfft(clip)) ** 2
    return float(power[np.fft.rfftfreq(len(clip), 1 / RATE) > above].sum() / power.sum())


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_a_spoilt_clip_differs_at_the_same_length_and_loudness(kind: str, clip: np.ndarray) -> None:
    for seed in range(4):
        spoilt = _spoil(kind, clip, seed)
        assert spoilt.shape == clip.shape and spoilt.dtype == np.float32 and np.isfinite(spoilt).all()
        assert np.sqrt(np.mean(spoilt**2)) == pytest.approx(np.sqrt(np.mean(clip**2)), rel=1e-3)
        assert np.abs(spoilt - clip).max() > 1e-3
        np.testing.assert_array_equal(spoilt, _spoil(kind, clip, seed))


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_silence_stays_finite(kind: str) -> None:
    assert np.isfinite(_spoil(kind, np.zeros(RATE, np.float32))).all()


def test_lowpass_removes_the_treble() -> None:
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    assert _high_share(noise, 4000) > 0.7
    assert _high_share(_spoil("lowpass", noise), 4000) < 0.01


def test_clipping_flattens_the_peaks(clip: np.ndarray) -> None:
    spoilt = _spoil("clipping", clip)
    assert np.mean(np.abs(spoilt) > 0.999 * np.abs(spoilt).max()) > 0.04


def test_few_bits_leave_few_levels(clip: np.ndarray) -> None:
    assert len(np.unique(_spoil("8bit", clip))) <= 257


def test_noise_fills_the_pauses(clip: np.ndarray) -> None:
    quiet = np.abs(clip) < 1e-3
    assert quiet.mean() > 0.2
    assert np.std(_spoil("noise", clip)[quiet]) > 3 * np.std(clip[quiet])
