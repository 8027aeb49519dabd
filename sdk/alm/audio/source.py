"""Open anything that holds a recording and take its frames block by block.

A recording is a file, the bytes of a file, a binary file object or an array with its rate. Whatever is
wrong with it becomes an AudioError here, so that what follows sees finite float32 only.
"""

from __future__ import annotations

import io
import operator
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from alm.audio.fileobject import FileObject
from alm.errors import AudioError, reason_of

Samples = NDArray[np.float32]
Source = str | Path | bytes | BinaryIO | tuple[NDArray[Any], int]

BLOCK = 65536
"""Frames decoded at a time."""
MAX_SECONDS = 4 * 3600.0
"""Longest recording read unless the caller allows more. An hour is 461 MB as 32 kHz float32."""
MIN_RATE, MAX_RATE = 1_000, 1_000_000
"""Accepted sample rates in Hz."""
MAX_CHANNELS = 64
"""Most channels: an array with more columns was passed as (channels, samples)."""
MAX_PEAK = 100.0
"""Largest absolute sample. Full scale is 1; floats far above it were never divided by 32768."""

UNKNOWN_FRAMES = 2**62
"""libsndfile announces its largest number for a stream that does not tell its length."""

# Zero and full scale of the integer types, as in WAV files.
INTEGERS: dict[np.dtype[Any], tuple[float, float]] = {
    np.dtype(np.uint8): (128.0, 2.0**7),
    np.dtype(np.int8): (0.0, 2.0**7),
    np.dtype(np.int16): (0.0, 2.0**15),
    np.dtype(np.int32): (0.0, 2.0**31),
}


@dataclass(frozen=True)
class OpenRecording:
    """An open recording; its blocks can be taken once."""

    name: str
    """What to call it in an error."""
    sample_rate: int
    """Frames per second."""
    channels: int
    """Number of channels."""
    frames: int
    """Frames that it announces; a damaged file may hold fewer."""
    blocks: Iterator[Samples]
    """Checked blocks (at most BLOCK, channels), full scale ±1, together at least one frame."""


@contextmanager
def open_recording(source: Source, max_seconds: float = MAX_SECONDS) -> Iterator[OpenRecording]:
    """Open `source`; accepted sources and errors as described at `read_audio`."""
    if isinstance(source, tuple):
        yield _from_array(source, max_seconds)
        return
    if isinstance(source, str | Path):
        path = Path(source)
        with _descriptor(path) as descriptor:
            yield _from_file(descriptor, printable(path), max_seconds)
    elif isinstance(source, bytes | bytearray | memoryview):
        file = FileObject(io.BytesIO(source), f"the recording of {len(source)} bytes")
        yield _from_file(file, file.label, max_seconds)
    elif hasattr(source, "read"):
        file = FileObject(source, f"the file object {printable(getattr(source, 'name', source))}")
        yield _from_file(file, file.label, max_seconds)
    else:
        raise AudioError(
            f"found {type(source).__name__} as a recording, expected a path, the bytes of a file, "
            "a binary file object or a pair (samples, sample rate)"
        )


def printable(name: object) -> str:
    """A file name as text that can be written anywhere, also when it is not UTF-8."""
    return str(name).encode(errors="replace").decode()


def checked_rate(rate: Any, name: str) -> int:
    """The sample rate as an int in the accepted range, else AudioError."""
    try:
        value = int(rate) if isinstance(rate, float) and rate.is_integer() else operator.index(rate)
    except TypeError:
        raise AudioError(f"{name}: found the sample rate {rate!r}, expected a whole number of Hz") from None
    if not MIN_RATE <= value <= MAX_RATE:
        raise AudioError(f"{name}: found a sample rate of {value} Hz, expected {MIN_RATE} to {MAX_RATE} Hz")
    return value


@contextmanager
def _descriptor(path: Path) -> Iterator[int]:
    # libsndfile takes a name only in the file system's encoding, a descriptor always.
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
        descriptor = os.open(path, os.O_RDONLY) if regular else -1
    except (OSError, ValueError) as error:
        raise AudioError(f"{printable(path)} cannot be opened: {reason_of(error)}") from error
    if not regular:
        raise AudioError(f"{printable(path)} is not a regular file, expected a recording")
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _from_file(file: int | FileObject, name: str, max_seconds: float) -> OpenRecording:
    with _libsndfile(file, name):
        sound = _Forward(file, closefd=False)
    rate, channels = checked_rate(sound.samplerate, name), checked_channels(sound.channels, name)
    _check_duration(sound.frames, rate, max_seconds, name)

    def blocks() -> Iterator[Samples]:
        with sound:
            while True:
                with _libsndfile(file, name):
                    block = sound.read(BLOCK, dtype="float32", always_2d=True)
                if not len(block):
                    return
                yield block

    return OpenRecording(name, rate, channels, sound.frames, _checked(blocks(), rate, max_seconds, name))


class _Forward(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is only read forward.

    soundfile seeks to where it already is after every block, which in an MP3 loses sound: measured on a
    tone of 44.1 kHz, the first 35 ms of every block but the first came out silent.
    """

    def seekable(self) -> bool:
        return False


@contextmanager
def _libsndfile(file: int | FileObject, name: str) -> Iterator[None]:
    failure: soundfile.SoundFileError | None = None
    try:
        yield
    except soundfile.SoundFileError as error:
        failure = error
    if isinstance(file, FileObject):
        file.raise_kept()
    if failure is not None:
        reason = str(failure).rpartition(": ")[2]
        raise AudioError(
            f"{name} cannot be decoded ({reason}); expected a complete WAV, FLAC, Ogg, Opus, MP3, AIFF or "
            "other file that libsndfile reads"
        ) from failure


def _from_array(pair: tuple[Any, ...], max_seconds: float) -> OpenRecording:
    name = "the array"
    if len(pair) != 2:
        raise AudioError(f"found a tuple of {len(pair)}, expected a pair (samples, sample rate)")
    try:
        samples = np.asarray(pair[0])
    except ValueError as error:
        raise AudioError(f"{name} of samples is ragged: {error}") from None
    rate = checked_rate(pair[1], name)
    if samples.ndim not in (1, 2):
        raise AudioError(f"{name} has the shape {samples.shape}, expected (n,) or (n, channels)")
    if samples.dtype.kind != "f" and samples.dtype.newbyteorder("=") not in INTEGERS:
        known = ", ".join(map(str, INTEGERS))
        raise AudioError(f"{name} has samples of type {samples.dtype}, expected floats, {known}")
    table = samples.reshape(len(samples), -1) if len(samples) else samples.reshape(0, 1)
    checked_channels(table.shape[1], f"{name} of shape {samples.shape}")
    _check_duration(len(table), rate, max_seconds, name)
    zero, full = INTEGERS.get(samples.dtype.newbyteorder("="), (0.0, 1.0))

    def blocks() -> Iterator[NDArray[Any]]:
        for start in range(0, len(table), BLOCK):
            block = table[start : start + BLOCK]
            yield block if samples.dtype.kind == "f" else (block - zero) / full

    return OpenRecording(name, rate, table.shape[1], len(table), _checked(blocks(), rate, max_seconds, name))


def checked_channels(channels: int, name: str) -> int:
    """The number of channels when it is one that can be heard, else AudioError."""
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(
            f"{name} has {channels} channels, expected 1 to {MAX_CHANNELS}; "
            "an array has the shape (n,) or (n, channels)"
        )
    return channels


def _check_duration(frames: int, rate: int, max_seconds: float, name: str) -> None:
    if frames > max_seconds * rate and frames < UNKNOWN_FRAMES:
        raise AudioError(
            f"{name} lasts {frames / rate:.0f} s, the limit is {max_seconds:g} s; "
            "raise max_seconds or cut the recording"
        )


def _checked(blocks: Iterator[NDArray[Any]], rate: int, max_seconds: float, name: str) -> Iterator[Samples]:
    frames = 0
    for block in blocks:
        frames += len(block)
        _check_duration(frames, rate, max_seconds, name)
        check_values(block, name)
        yield block.astype(np.float32, copy=False)
    if not frames:
        raise AudioError(f"{name} holds no samples; give a recording with sound in it")


def check_values(block: NDArray[Any], name: str) -> None:
    """AudioError when a block (n, channels), n at least 1, holds a NaN, an infinity or a sample beyond ±100."""
    peak = max(block.max(), -block.min())
    # A NaN anywhere makes the maximum NaN, and no comparison with NaN holds.
    if peak <= MAX_PEAK:
        return
    if not np.isfinite(peak):
        raise AudioError(f"{name} has NaN or infinite samples; repair the recording before use")
    raise AudioError(
        f"{name} has a sample of {peak:g}, full scale is 1 and the limit {MAX_PEAK:g}; "
        "divide samples that were integers by their full scale (32768 for 16 bit)"
    )
