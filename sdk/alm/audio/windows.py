"""Fit a recording to the length a model takes: short ones are tiled, long ones cut into windows, none cut off."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np

from alm.audio.decode import Waveform, mono_blocks
from alm.audio.source import MAX_SECONDS, Samples, Source, checked_rate, open_recording
from alm.errors import AudioError

WindowPolicy = Literal["all", "first"]


@dataclass(frozen=True, eq=False)
class Window:
    """One clip of the model's length and where it was heard."""

    samples: Samples
    """Samples (length,), full scale ±1."""
    start_s: float
    """Start in the recording, seconds."""
    end_s: float
    """End of what was heard in the recording, seconds; less than a whole window after `start_s` if tiled."""


def windows(waveform: Waveform, length: int, policy: WindowPolicy = "all") -> list[Window]:
    """Cut a waveform into consecutive windows of `length` samples; whole windows are views of it.

    A recording shorter than a window is repeated until it fills it, as the authors' loader does (Mellow, audio
    loading of the inference wrapper). The last window of a longer one ends where the recording ends and so
    overlaps the one before: a rest of a tenth of a second, repeated a hundred times, would be another sound.
    `policy` "first" keeps only the first window. Raises AudioError for an unknown policy.
    """
    return list(_limited(_cut([waveform.samples], length, waveform.sample_rate), policy))


def stream_windows(
    source: Source,
    sample_rate: int,
    length: int,
    policy: WindowPolicy = "all",
    *,
    max_seconds: float = MAX_SECONDS,
) -> Iterator[Window]:
    """The windows of `windows(read_audio(source, sample_rate), length, policy)`, decoded as they are taken.

    Memory is a window and a few blocks, also for recordings of many hours. With `policy` "first" the rest
    is neither decoded nor subject to `max_seconds`. Sources and errors as for `read_audio`; the source
    must stay as it is until the last window was taken.
    """
    checked_rate(sample_rate, "sample_rate")
    limit = float("inf") if policy == "first" else max_seconds
    with open_recording(source, limit) as recording:
        yield from _limited(_cut(mono_blocks(recording, sample_rate), length, sample_rate), policy)


def tile(samples: Samples, length: int) -> Samples:
    """Repeat `samples` (n,), n ≥ 1, until they fill `length`, then cut."""
    return np.tile(samples, -(-length // len(samples)))[:length]


def _limited(found: Iterator[Window], policy: WindowPolicy) -> Iterator[Window]:
    if policy not in ("all", "first"):
        raise AudioError(f"found the window policy {policy!r}, expected 'all' or 'first'")
    return islice(found, 1 if policy == "first" else None)


def _cut(blocks: Iterable[Samples], length: int, rate: int) -> Iterator[Window]:
    start = 0
    rest = last = np.empty(0, np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block]) if len(rest) else block
        whole = len(rest) // length * length
        for offset in range(0, whole, length):
            last = rest[offset : offset + length]
            yield Window(last, start / rate, (start + length) / rate)
            start += length
        rest = rest[whole:]
    if not len(rest):
        return
    end = start + len(rest)
    if start:
        yield Window(np.concatenate([last[len(rest) :], rest]), (end - length) / rate, end / rate)
    else:
        yield Window(tile(rest, length), 0.0, end / rate)
