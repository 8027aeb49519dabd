"""Recordings to mono float32 at one rate, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soxr

from alm.audio.resampling import StreamResampler
from alm.audio.source import (
    MAX_SECONDS,
    UNKNOWN_FRAMES,
    OpenRecording,
    Samples,
    Source,
    checked_rate,
    open_recording,
)
from alm.errors import AudioError


@dataclass(frozen=True, eq=False)
class Waveform:
    """A mono recording."""

    samples: Samples
    """Samples (n,), n ≥ 1, finite, full scale ±1."""
    sample_rate: int
    """Samples per second."""


def read_audio(source: Source, sample_rate: int | None = None, *, max_seconds: float = MAX_SECONDS) -> Waveform:
    """Decode a recording, average its channels and resample it to `sample_rate` Hz; None keeps its rate.

    `source` is a path, the bytes of a file, a binary file object (read from its start), or a pair
    (samples, rate) with samples of shape (n,) or (n, channels), floats or 8, 16 or 32 bit integers.
    Beyond the result, memory is a few blocks whatever the length; `stream_windows` does not need the
    result either and suits recordings of hours.

    A file that was cut off is read as far as it goes where its format allows that, as players do; one that
    the decoder finds damaged is refused.

    Raises AudioError when the source is not audio, holds no samples, a NaN, an infinity or a sample
    beyond ±100, has a rate outside 1 kHz to 1 MHz or more than 64 channels, or lasts longer than
    `max_seconds` (four hours unless given).
    """
    with open_recording(source, max_seconds) as recording:
        rate = recording.sample_rate if sample_rate is None else checked_rate(sample_rate, "sample_rate")
        expected = recording.frames * rate // recording.sample_rate if recording.frames < UNKNOWN_FRAMES else 0
        return Waveform(_joined(mono_blocks(recording, rate), expected + 1), rate)


def resample(waveform: Waveform, sample_rate: int) -> Waveform:
    """The waveform at another rate in Hz (soxr, high quality: pass band to 0.91 of the lower Nyquist rate).

    Raises AudioError when nothing is left of it, or the rate is outside 1 kHz to 1 MHz.
    """
    if waveform.sample_rate == checked_rate(sample_rate, "sample_rate"):
        return waveform
    samples: Samples = soxr.resample(waveform.samples, waveform.sample_rate, sample_rate)
    if not len(samples):
        raise _too_short("the waveform", sample_rate)
    return Waveform(samples, sample_rate)


def mono_blocks(recording: OpenRecording, sample_rate: int) -> Iterator[Samples]:
    """Blocks (n,) of the recording with its channels averaged, at `sample_rate`, together n ≥ 1."""
    mono = (block.mean(axis=1, dtype=np.float32) for block in recording.blocks)
    stream = StreamResampler(recording.sample_rate, sample_rate)
    total = 0
    for block in mono:
        converted = stream.push(block)
        total += len(converted)
        yield converted
    tail = stream.finish()
    if not total + len(tail):
        raise _too_short(recording.name, sample_rate)
    yield tail


def _too_short(name: str, sample_rate: int) -> AudioError:
    return AudioError(f"{name} is shorter than one sample at {sample_rate} Hz; give a longer recording")


def _joined(blocks: Iterator[Samples], expected: int) -> Samples:
    # One buffer instead of a list and its concatenation: hours of sound must not be held twice.
    buffer, length = np.empty(expected, np.float32), 0
    for block in blocks:
        if length + len(block) > len(buffer):
            buffer.resize(length + len(block) + len(buffer) // 2, refcheck=False)
        buffer[length : length + len(block)] = block
        length += len(block)
    buffer.resize(length, refcheck=False)
    return buffer
