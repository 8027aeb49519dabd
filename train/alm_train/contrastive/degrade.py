"""Ways to spoil a clean recording, each with the words for what is then heard."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt

CLEAN = "the sound is clear and clean."
SPOILT = "the sound is noisy and with artifacts."
"""The two prompts of PAM (arXiv 2402.00282)."""

LOWEST = 0.99
"""Strongest compression that libsndfile takes for MP3 (33 kbit/s); Vorbis takes 1 and sounds the same at 0.99."""

Waveform = NDArray[np.float32]


@dataclass(frozen=True)
class Degradation:
    """One way to spoil a clip."""

    text: str
    """What is heard afterwards."""
    apply: Callable[[Waveform, int, np.random.Generator], Waveform]
    """(samples,) float32 at a sample rate in Hz to the same length; strength and noise come from the generator."""


def degrade(kind: str, waveform: Waveform, sample_rate: int, rng: np.random.Generator) -> Waveform:
    """A spoilt copy of (samples,) float32 audio by `kind`, a key of `DEGRADATIONS`, at the loudness of the original."""
    spoilt = DEGRADATIONS[kind].apply(waveform, sample_rate, rng)
    return (spoilt * (_level(waveform) / _level(spoilt))).astype(np.float32)


def _level(waveform: Waveform) -> float:
    return float(max(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))), 1e-6))


def _noise(waveform: Waveform, sample_rate: int, rng: np.random.Generator) -> Waveform:
    """White to pink noise, 0 to 20 dB below the sound."""
    spectrum = np.fft.rfft(rng.standard_normal(len(waveform)))
    frequency = np.maximum(np.fft.rfftfreq(len(waveform), 1 / sample_rate), 20.0)
    noise = np.fft.irfft(spectrum / frequency ** rng.uniform(0, 0.5), len(waveform))
    ratio = 10 ** (-rng.uniform(0, 20) / 20)
    return waveform + noise / _level(noise) * _level(waveform) * ratio


def _clipping(waveform: Waveform, sample_rate: int, rng: np.random.Generator) -> Waveform:
    """The loudest 5 to 40 % of the samples cut flat."""
    limit = max(float(np.quantile(np.abs(waveform), 1 - rng.uniform(0.05, 0.4))), 1e-5)
    return np.clip(waveform, -limit, limit)


def _lowpass(waveform: Waveform, sample_rate: int, rng: np.random.Generator) -> Waveform:
    """Everything above 600 Hz to 3 kHz removed."""
    edge = float(np.exp(rng.uniform(np.log(600), np.log(3000))))
    return sosfiltfilt(butter(6, edge, fs=sample_rate, output="sos"), waveform).astype(np.float32)


def _codec(waveform: Waveform, sample_rate: int, rng: np.random.Generator) -> Waveform:
    """Through MP3 or Vorbis at its lowest rate, up to three times over."""
    peak = max(float(np.abs(waveform).max()), 1e-5)
    coded = waveform / peak
    for _ in range(int(rng.integers(1, 4))):
        file = io.BytesIO()
        container, coding = (("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"))[int(rng.integers(2))]
        soundfile.write(file, coded, sample_rate, coding, format=container, compression_level=LOWEST)
        file.seek(0)
        read = soundfile.read(file, dtype="float32")[0][: len(waveform)]
        coded = np.pad(read, (0, len(waveform) - len(read)))
    return coded * peak


def _few_bits(waveform: Waveform, sample_rate: int, rng: np.random.Generator) -> Waveform:
    """3 to 8 bits per sample, without dither."""
    peak = max(float(np.abs(waveform).max()), 1e-5)
    steps = 2.0 ** (rng.uniform(3, 8) - 1)
    return np.round(waveform / peak * steps) / steps * peak


DEGRADATIONS: dict[str, Degradation] = {
    "noise": Degradation("the sound is covered by hiss and background noise.", _noise),
    "clipping": Degradation("the sound is distorted by clipping.", _clipping),
    "lowpass": Degradation("the sound is muffled and dull.", _lowpass),
    "codec": Degradation("the sound is heavily compressed.", _codec),
    "8bit": Degradation("the sound is coarse and crackles with few bits.", _few_bits),
}
