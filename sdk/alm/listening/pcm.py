"""Raw PCM from a pipe: sound without a header, such as `arecord` and `ffmpeg` write to standard output."""

from __future__ import annotations

import math
import os
import select
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from alm.audio.source import Samples, check_values, checked_channels, checked_rate, printable
from alm.closing import Closing
from alm.errors import AudioError
from alm.listening.blocks import BLOCK_SECONDS, Block

POLL_MS = 100
"""How soon a reader that waits for input notices `close`."""


@dataclass(frozen=True)
class PcmFormat:
    """How one sample is written."""

    size: int
    """Bytes per sample."""
    decode: Callable[[bytes], NDArray[Any]]
    """Whole samples as bytes -> values with full scale ±1."""


def _packed24(data: bytes) -> NDArray[Any]:
    # Three bytes become the upper three of an int32, which keeps the sign where it belongs.
    wide = np.zeros((len(data) // 3, 4), np.uint8)
    wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return wide.view("<i4")[:, 0] / 2.0**31


FORMATS: dict[str, PcmFormat] = {
    "u8": PcmFormat(1, lambda data: (np.frombuffer(data, np.uint8) - 128.0) / 128.0),
    "s16le": PcmFormat(2, lambda data: np.frombuffer(data, "<i2") / 2.0**15),
    "s24le": PcmFormat(3, _packed24),
    "s32le": PcmFormat(4, lambda data: np.frombuffer(data, "<i4") / 2.0**31),
    "f32le": PcmFormat(4, lambda data: np.frombuffer(data, "<f4")),
}
"""Sample formats by the names that ffmpeg uses; `s24le` is three bytes, arecord's S24_3LE."""


class PcmPipe(Closing):
    """Frames of interleaved channels from a pipe, socket or file, averaged to mono; it waits for its reader.

    A writer that stops in the middle of a frame, or the wrong format or number of channels, leaves bytes that
    make no whole frame. The sound before them is used; `cut_bytes` says how many were dropped.
    """

    def __init__(self, file: BinaryIO | int, sample_rate: int, channels: int = 1, format: str = "s16le") -> None:
        """Read from a descriptor, or from a file object that has one and was not read from; it stays open.

        Raises AudioError for an unknown format, a rate outside 1 kHz to 1 MHz, more than 64 channels, a file
        without a descriptor, and a terminal.
        """
        if format not in FORMATS:
            raise AudioError(f"found the sample format {format!r}, expected one of {', '.join(FORMATS)}")
        self.cut_bytes = 0
        """Bytes at the end of the input that made no whole frame and were dropped."""
        self._descriptor = _descriptor(file)
        self._name = f"the pipe {printable(getattr(file, 'name', file))}"
        self._rate = checked_rate(sample_rate, self._name)
        self._channels = checked_channels(channels, self._name)
        self._format = FORMATS[format]
        self._taken = False
        self._closed = threading.Event()

    @property
    def sample_rate(self) -> int:
        """The rate that was given, in Hz."""
        return self._rate

    @property
    def live(self) -> bool:
        """False: a pipe holds back its writer until it is read."""
        return False

    def blocks(self) -> Iterator[Block]:
        """Blocks of 0.1 s, the last one shorter; their time is when their first bytes arrived.

        Raises AudioError when no whole frame comes, on a NaN, an infinity or a sample beyond ±100, and when
        reading fails.
        """
        if self._taken:
            raise AudioError(f"{self._name} was read already; open a new one")
        self._taken = True
        frame = self._format.size * self._channels
        regular = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        frames = 0
        try:
            for data, arrived in self._chunks(frame * max(1, int(self._rate * BLOCK_SECONDS))):
                self.cut_bytes = len(data) % frame
                if whole := data[: len(data) - self.cut_bytes]:
                    frames += len(whole) // frame
                    yield Block(self._mono(whole), 0, math.nan if regular else arrived)
            if not frames and not self._closed.is_set():
                raise AudioError(
                    f"{self._name} ended after {self.cut_bytes} bytes, a frame has {frame}; "
                    "look whether the program that records has failed"
                )
        finally:
            self.close()

    def close(self) -> None:
        """Stop reading; the file itself stays open, it belongs to the caller."""
        self._closed.set()

    def _chunks(self, size: int) -> Iterator[tuple[bytes, float]]:
        """Pieces of `size` bytes, the last one shorter, each with the time its first bytes came."""
        data, arrived = bytearray(), 0.0
        while piece := self._read(size - len(data)):
            arrived = arrived if data else time.time()
            data += piece
            if len(data) == size:
                yield bytes(data), arrived
                data.clear()
        if data and not self._closed.is_set():
            yield bytes(data), arrived

    def _read(self, size: int) -> bytes:
        """At least one byte as soon as there is one; none at the end of the input and after `close`."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        try:
            while not self._closed.is_set():
                with suppress(BlockingIOError):  # another process took what was there
                    if poll.poll(POLL_MS):
                        return os.read(self._descriptor, size)
        except OSError as error:
            raise AudioError(f"{self._name} cannot be read: {error.strerror}") from error
        return b""

    def _mono(self, data: bytes) -> Samples:
        frames = self._format.decode(data).reshape(-1, self._channels)
        check_values(frames, self._name)
        mono: Samples = frames.mean(axis=1, dtype=np.float32)
        return mono


def _descriptor(file: BinaryIO | int) -> int:
    try:
        descriptor = file if isinstance(file, int) else file.fileno()
        os.fstat(descriptor)
    except (AttributeError, OSError, ValueError, OverflowError) as error:
        raise AudioError(
            f"found {type(file).__name__} as a pipe ({error}), expected an open descriptor or a file that has one; "
            "give sound in memory as a pair (samples, sample rate)"
        ) from error
    if os.isatty(descriptor):
        raise AudioError("found a terminal as a pipe, expected raw PCM; pipe a recorder into it, such as arecord")
    return descriptor
