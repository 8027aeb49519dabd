"""The authors' own audio loader, for comparisons that need its numbers.

It differs from `windows` in four ways (soham97/mellow, its wrapper's audio loading): channels are put one
behind the other instead of averaged, resampling is torchaudio's windowed sinc, a long recording is
cropped at a random place instead of windowed, and that place is not seeded. Here it is: the start, or
what a seed gives.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from alm.audio.decode import Waveform
from alm.audio.source import MAX_SECONDS, Samples, Source, checked_rate, open_recording
from alm.audio.windows import Window, WindowPolicy, tile, windows
from alm.errors import AudioError

FILTER_WIDTH = 6
"""Zero crossings of the sinc on each side: torchaudio's `lowpass_filter_width`."""
ROLLOFF = 0.99
"""Cutoff as a fraction of the lower Nyquist frequency."""
MAX_KERNEL = 16_000_000
"""Most elements of the filter bank; rates without a common divisor would need gigabytes."""
PHASES = 4096
"""Output steps computed at a time."""


def compat_windows(source: Source, sample_rate: int, length: int, policy: WindowPolicy = "all") -> Iterator[Window]:
    """Load a recording as the authors do, and cut it into the windows of `alm.audio.windows`.

    Their quality score (soham97/PAM) hears all of a recording: nothing in it is left to chance. Times count in the
    long row of channels. Sources and errors as for `read_audio`.
    """
    yield from windows(Waveform(compat_row(source, sample_rate), sample_rate), length, policy)


def compat_window(source: Source, sample_rate: int, length: int, *, seed: int | None = None) -> Window:
    """Load a clip as the authors do: `length` samples at `sample_rate` Hz.

    A recording longer than that (all channels behind one another) is cropped at the place that
    `random.Random(seed).randrange` gives, or at its start without a seed. The times of the window count
    in that long row of channels. Sources and errors as for `read_audio`.
    """
    row = compat_row(source, sample_rate)
    if len(row) <= length:
        return Window(tile(row, length), 0.0, len(row) / sample_rate)
    start = 0 if seed is None else random.Random(seed).randrange(len(row) - length)
    end = start + length
    return Window(row[start:end], start / sample_rate, end / sample_rate)


def compat_row(source: Source, sample_rate: int) -> Samples:
    """A recording at `sample_rate` Hz, its channels one behind the other: (n · channels,)."""
    with open_recording(source, MAX_SECONDS) as recording:
        rate, name = recording.sample_rate, recording.name
        channels = np.concatenate(list(recording.blocks)).T
    checked_rate(sample_rate, "sample_rate")
    return np.concatenate([sinc_resample(channel, rate, sample_rate, name) for channel in channels])


def sinc_resample(samples: Samples, rate: int, new_rate: int, name: str = "the recording") -> Samples:
    """torchaudio's `Resample(rate, new_rate)` with its defaults: samples (n,) to (⌈n · new_rate / rate⌉,). AudioError
    for a pair of rates whose filters would need more than MAX_KERNEL taps each."""
    if rate == new_rate:
        return samples
    divisor = math.gcd(rate, new_rate)
    old, new = rate // divisor, new_rate // divisor
    width = math.ceil(FILTER_WIDTH * old / (min(old, new) * ROLLOFF))
    if new * (2 * width + old) > MAX_KERNEL:
        raise AudioError(
            f"{name}: the authors' resampler cannot go from {rate} to {new_rate} Hz in reasonable memory; "
            "convert the recording to a usual rate first, or do not ask for compat"
        )
    bank = sinc_kernels(old, new, width)
    padded = np.pad(samples, (width, width + old))
    steps = np.lib.stride_tricks.sliding_window_view(padded, bank.shape[1])[::old]
    filtered = [steps[at : at + PHASES] @ bank.T for at in range(0, len(steps), PHASES)]
    return np.concatenate(filtered).reshape(-1)[: -(-new * len(samples) // old)]


def sinc_kernels(old: int, new: int, width: int) -> NDArray[np.float32]:
    """The filter bank (new, 2 · width + old), one row per output phase."""
    cutoff = min(old, new) * ROLLOFF
    # The reference divides these integers in float32 and everything else in float64.
    phase = (np.arange(0, -new, -1).astype(np.float32) / np.float32(new)).astype(np.float64)
    time = phase[:, None] + np.arange(-width, width + old, dtype=np.float64) / old
    time = np.clip(time * cutoff, -FILTER_WIDTH, FILTER_WIDTH)
    hann = np.cos(time * math.pi / FILTER_WIDTH / 2) ** 2
    # numpy's sinc is sin(πx) / (πx) with the limit at zero.
    bank: NDArray[np.float32] = (np.sinc(time) * hann * (cutoff / old)).astype(np.float32)
    return bank
