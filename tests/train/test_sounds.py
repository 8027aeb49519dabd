"""The words for sounds, and the sounds the recipe makes."""

from __future__ import annotations

import numpy as np
import pytest

from alm_train.data.sounds import LABELS, SOUNDS, SYNTHETIC, sound_named_in
from alm_train.data.synthetic import synthesise

RATE = 32000


@pytest.mark.parametrize("label", LABELS)
def test_every_wording_names_its_own_sound(label: str) -> None:
    sound = SOUNDS[label]
    for words in (sound.name, sound.phrase, sound.sentence):
        assert words == words.lower()
        assert sound_named_in(f"{words}.") == label


def test_no_sound_and_two_sounds_are_not_one() -> None:
    assert sound_named_in("something else entirely") is None
    assert sound_named_in("rain or wind") is None


@pytest.mark.parametrize("label", SYNTHETIC)
def test_synthetic_sounds_are_repeatable_and_bounded(label: str) -> None:
    first, again, other = (synthesise(label, seed, RATE, RATE) for seed in (3, 3, 4))
    assert first.dtype == np.float32 and first.shape == (RATE,)
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert np.isfinite(first).all() and np.abs(first).max() <= 1


def _dominant(signal: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(len(signal))))
    return float(np.fft.rfftfreq(len(signal), 1 / RATE)[spectrum.argmax()])


@pytest.mark.parametrize(("label", "sign"), [("rising_sweep", 1), ("falling_sweep", -1)])
def test_sweeps_go_where_they_say(label: str, sign: int) -> None:
    for seed in range(8):
        signal = synthesise(label, seed, 5 * RATE, RATE)
        pitches = [_dominant(signal[start : start + 2048]) for start in range(0, len(signal) - 2048, 2048)]
        # Glides start again up to twice; apart from those jumps every step goes the same way.
        agreeing = sum(sign * step > 0 for step in np.diff(pitches) if abs(step) > 1)
        assert agreeing > 0.8 * sum(abs(step) > 1 for step in np.diff(pitches))


def test_silence_is_far_below_every_other_sound() -> None:
    quiet = np.abs(synthesise("silence", 0, RATE, RATE)).max()
    assert all(np.abs(synthesise(label, 0, RATE, RATE)).max() > 10 * quiet for label in SYNTHETIC if label != "silence")
