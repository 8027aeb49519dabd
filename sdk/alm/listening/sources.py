"""Recordings and arrays as sources: as fast as they are read, or paced like a microphone."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import cast

import numpy as np

from alm.audio.source import OpenRecording, Samples, Source, open_recording
from alm.closing import Closing
from alm.errors import AudioError
from alm.listening.blocks import BLOCK_SECONDS, BUFFER_SECONDS, Block, LiveSource


def open_source(source: Source | LiveSource) -> LiveSource:
    """A live source as it is; anything that holds a recording as a `RecordingSource`, read as fast as it is taken."""
    # Not isinstance: on Python 3.11 that reads every property of the protocol, and `sample_rate` opens the device.
    return cast(LiveSource, source) if hasattr(source, "blocks") else RecordingSource(source)


class RecordingSource(Closing):
    """A path, the bytes of a file, a binary file object or a pair (samples, rate), block by block.

    With `paced` it behaves like a microphone: sound comes at that many times real time, and what nobody reads
    within `buffer_seconds` of sound is lost, oldest first. Time is taken from the monotonic clock, so setting
    the wall clock changes nothing. Memory does not grow with the recording, so its length is not limited.
    """

    def __init__(self, source: Source, *, paced: float | None = None, buffer_seconds: float = BUFFER_SECONDS) -> None:
        """Opens nothing yet. AudioError when `paced` or `buffer_seconds` is not a positive number."""
        if paced is not None:
            positive(paced, "paced")
        self.overflows = 0
        """How many times sound was lost because nobody read in time."""
        self.lost_frames = 0
        """Frames that were lost that way."""
        self._source = source
        self._speed = paced
        self._buffer_seconds = positive(buffer_seconds, "buffer_seconds")
        self._stack = ExitStack()
        self._recording: OpenRecording | None = None
        self._taken = False
        self._closed = threading.Event()
        # Held while the decoder works, so that no other thread closes the file under it.
        self._inside = threading.Lock()

    @property
    def sample_rate(self) -> int:
        """The recording's own rate in Hz. Opens it; raises AudioError."""
        return self._opened().sample_rate

    @property
    def live(self) -> bool:
        """Whether it is paced."""
        return self._speed is not None

    def blocks(self) -> Iterator[Block]:
        """Blocks of at most 0.1 s, channels averaged. Errors as for `alm.audio.read_audio`, while they are taken;
        AudioError when they are asked for twice."""
        if self._taken:
            raise AudioError("the blocks of this source were taken already; make a new one")
        self._taken = True
        if self._closed.is_set():
            return
        try:
            recording = self._opened()
            pieces = self._pieces(recording)
            yield from self._paced(pieces, recording, self._speed) if self._speed else _unpaced(pieces)
        finally:
            self.close()

    def close(self) -> None:
        """Close the recording; one that was opened by the caller stays open."""
        self._closed.set()
        # A decoder at work in another thread is left alone: `_pieces` closes the file when it is done.
        if self._inside.acquire(blocking=False):
            try:
                self._stack.close()
            finally:
                self._inside.release()

    def _opened(self) -> OpenRecording:
        with self._inside:
            if self._recording is None:
                if self._closed.is_set():
                    raise AudioError("this source was closed before it was read; open a new one")
                self._recording = self._stack.enter_context(open_recording(self._source, math.inf))
            return self._recording

    def _pieces(self, recording: OpenRecording) -> Iterator[Samples]:
        step = max(1, int(recording.sample_rate * BLOCK_SECONDS))
        while not self._closed.is_set():
            with self._inside:
                decoded = next(recording.blocks, None) if not self._closed.is_set() else None
            if decoded is None:
                return
            mono: Samples = decoded.mean(axis=1, dtype=np.float32)
            for start in range(0, len(mono), step):
                if self._closed.is_set():
                    return
                yield mono[start : start + step]

    def _paced(self, pieces: Iterator[Samples], recording: OpenRecording, speed: float) -> Iterator[Block]:
        rate = recording.sample_rate * speed
        room = int(self._buffer_seconds * recording.sample_rate)
        start = time.monotonic()
        position = lost = 0
        for samples in pieces:
            position += len(samples)
            if self._closed.wait(start + position / rate - time.monotonic()):
                return
            arrived = min(int((time.monotonic() - start) * rate), recording.frames)
            if arrived - position >= room:
                self.overflows += not lost
                self.lost_frames += len(samples)
                lost += len(samples)
                continue
            yield Block(samples, lost, math.nan)
            lost = 0


def positive(value: float, name: str) -> float:
    """The value when it is a finite number above zero, else AudioError."""
    if isinstance(value, int | float) and math.isfinite(value) and value > 0:
        return float(value)
    raise AudioError(f"found {name}={value!r}, expected a number above 0")


def _unpaced(pieces: Iterator[Samples]) -> Iterator[Block]:
    for samples in pieces:
        yield Block(samples, 0, math.nan)
