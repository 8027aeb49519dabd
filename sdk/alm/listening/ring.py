"""A ring of frames between the audio callback that fills it and the one reader that empties it.

The writer never waits, for nobody: it holds no lock, and what the reader has not taken in time is
overwritten, oldest first, and counted. The reader copies first and looks afterwards which of the frames it
copied were overwritten meanwhile, as with a sequence lock.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from dataclasses import dataclass

import numpy as np

from alm.audio.source import Samples


@dataclass(frozen=True, eq=False)
class Taken:
    """Consecutive frames out of the ring."""

    frames: Samples
    """A copy (n, channels), n ≥ 1."""
    lost: int
    """Frames that were lost right before these."""
    captured: float
    """When the first of them was captured, by the monotonic clock."""


@dataclass(frozen=True)
class _Gap:
    """A place in the stream where frames are missing that were never written."""

    position: int
    """Frames written before it."""
    lost: int
    """Frames that are missing."""
    began: float
    """When the frame before it was captured, by the monotonic clock."""
    overflow: bool
    """Whether the device ran over, as opposed to having been away."""


class Ring:
    """Preallocated float32 frames; one thread writes, one reads, any thread closes.

    Positions count frames written since the start. `_claimed` runs ahead of `_written` while a write is under
    way, so that the reader knows which frames may be half overwritten.
    """

    def __init__(self, frames: int, channels: int, sample_rate: int) -> None:
        """Room for `frames` frames of `channels` channels; `sample_rate` in Hz turns times into frames."""
        self.overflows = 0
        """How many times frames were lost because nobody took them in time, as far as the reader has come."""
        self.lost_frames = 0
        """How many frames were lost, for whatever reason, as far as the reader has come."""
        self._buffer = np.zeros((frames, channels), np.float32)
        self.sample_rate = sample_rate
        self.channels = channels
        self._claimed = self._written = self._read = 0
        self._stamp = (0, time.monotonic())  # frames written, and when
        self._gaps: deque[_Gap] = deque()
        self._interrupted = False
        self._lost = 0
        self._closed = False
        # The reader waits for a token. SimpleQueue may be put to from anywhere and never blocks there.
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._wanted = 1

    @property
    def written(self) -> int:
        """Frames written so far."""
        return self._written

    def write(self, frames: Samples, overflow: bool = False) -> None:
        """Append `frames` (n, channels). `overflow`: some were lost before them, and the clock tells how many."""
        now, count, capacity = time.monotonic(), len(frames), len(self._buffer)
        if overflow or self._interrupted:
            self._note_gap(now - count / self.sample_rate, overflow)
        end = self._written + count
        self._claimed = end
        kept = frames[-capacity:]
        place = (end - len(kept)) % capacity
        head = min(len(kept), capacity - place)
        self._buffer[place : place + head] = kept[:head]
        self._buffer[: len(kept) - head] = kept[head:]
        self._stamp = (end, now)
        self._written = end
        if end >= self._wanted:
            self._wake()

    def interrupt(self) -> None:
        """The device is gone: what time passes until the next write is lost frames. Called between writes."""
        self._interrupted = True

    def close(self) -> None:
        """No more frames will come: the reader takes what is left, then ends."""
        self._closed = True
        self._wake()

    def take(self, limit: int, timeout: float) -> Taken | None:
        """`limit` frames, or fewer before a gap and after `close`; None after `timeout` seconds without them."""
        deadline = time.monotonic() + timeout
        limit = min(limit, len(self._buffer))
        while True:
            closed = self._closed
            self._wanted = self._read + limit
            taken = self._take(limit, closed)
            if taken is not None or closed:
                return taken
            try:
                self._tokens.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return None

    def _note_gap(self, resumed: float, overflow: bool) -> None:
        began = self._stamp[1]
        self._interrupted = False
        self._gaps.append(_Gap(self._written, max(0, round((resumed - began) * self.sample_rate)), began, overflow))
        self._wake()

    def _wake(self) -> None:
        if self._tokens.empty():
            self._tokens.put(None)

    def _take(self, limit: int, closed: bool) -> Taken | None:
        self._skip_to(self._claimed - len(self._buffer))
        # In this order: a gap that is noted after `_written` was looked at lies at or behind it.
        written, stamp = self._written, self._stamp
        self._pass_gaps()
        gap = self._gaps[0] if self._gaps else None
        available = (gap.position if gap else written) - self._read
        if available < (1 if gap or closed else limit):
            return None
        first, count = self._read, min(available, limit)
        frames = self._copied(first, count)
        if self._claimed - len(self._buffer) > first:
            # The writer came round meanwhile and may have written over what was copied.
            return self._take(limit, closed)
        self._read += count
        lost, self._lost = self._lost, 0
        position, moment = (gap.position, gap.began) if gap else stamp
        return Taken(frames, lost, moment - (position - first) / self.sample_rate)

    def _copied(self, start: int, count: int) -> Samples:
        place = start % len(self._buffer)
        tail = self._buffer[place : place + count]
        return np.concatenate([tail, self._buffer[: count - len(tail)]])

    def _skip_to(self, oldest: int) -> None:
        if oldest > self._read:
            self.overflows += 1
            self._count_lost(oldest - self._read)
            self._read = oldest

    def _pass_gaps(self) -> None:
        while self._gaps and self._gaps[0].position <= self._read:
            gap = self._gaps.popleft()
            self.overflows += gap.overflow
            self._count_lost(gap.lost)

    def _count_lost(self, frames: int) -> None:
        self.lost_frames += frames
        self._lost += frames
