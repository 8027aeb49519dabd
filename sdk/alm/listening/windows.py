"""From blocks of sound at any rate to windows of the model's length, cut where the gate says something sounds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alm.audio.log_mel import LogMel, LogMelStream
from alm.audio.resampling import StreamResampler
from alm.audio.source import Samples
from alm.audio.windows import tile
from alm.listening.blocks import BLOCK_SECONDS, Block
from alm.listening.gate import STEP_SECONDS, Activity, ActivityGate, GateSettings
from alm.package import Frontend

OVERLAP = 0.2
"""Share of a window that the next one hears again: a sound of 2 s is whole in one of two windows of 10 s."""
GAP_SECONDS = 1.0
"""A shorter loss is filled with silence. After a longer one nothing is left of the sound before, nor of its floor."""
LATE_SECONDS = 2.0
"""How much later than its first frame an activity may be told, beyond what its settings say."""
LEVEL_SECONDS = 0.1
"""Stretch over which the level is taken."""
LEAST_LEVEL_DB = -120.0
"""Level of digital silence."""


@dataclass(frozen=True, eq=False)
class SoundWindow:
    """One clip of the model's length out of a stream."""

    samples: Samples
    """Samples (length,) at the model's rate; a shorter sound is repeated until it fills them."""
    start: float
    """Where the sound starts, seconds since the stream began."""
    end: float
    """Where it ends; less than a window after `start` where it was repeated."""
    time: float
    """UNIX time of `start`; NaN for a recording."""
    level_db: float
    """Root mean square of its loudest tenth of a second, dB of full scale."""
    activity: int
    """Which activity it belongs to, counted from 0."""
    last: bool
    """Whether the activity ends with it."""
    lost: float
    """Seconds of sound that were lost since the window before."""


class Windower:
    """Cuts a stream into windows. One thread uses it at a time.

    The windows are the same however the stream is split into blocks. Memory is one window, the pre-roll and a few
    seconds, all of it taken when the windower is made.
    """

    def __init__(
        self,
        frontend: Frontend,
        sample_rate: int,
        gate: GateSettings | None,
        bank: NDArray[np.float32] | None = None,
    ) -> None:
        """`sample_rate` is that of the blocks. `gate` None lets everything through; else `bank` (n_fft // 2 + 1, mels)
        is the filter bank it listens with, Slaney's when left out."""
        self._log_mel = LogMel(frontend, bank)
        self._source_rate = sample_rate
        self._rate = frontend.sample_rate
        self._length = frontend.samples
        self._hop = max(1, round(self._length * (1 - OVERLAP)))
        self._settings = gate
        late = LATE_SECONDS
        if gate is not None:
            late += gate.pre_roll_seconds + gate.min_seconds + gate.hang_over_seconds
        self._history = History(self._length + int(late * self._rate))
        self._position = 0.0
        """Where the source is, seconds."""
        self._time = math.nan
        self._lost = 0.0
        self._activity = 0
        self._first = self._next = -1
        """First sample of the activity under way and of its next window; -1 while there is none."""
        self._begin()

    def push(self, block: Block) -> Iterator[SoundWindow]:
        """Take the next block, give out the windows that are now certain."""
        if block.lost:
            yield from self._gap(block.lost)
        self._time = block.time - self._position
        step = max(1, int(self._source_rate * BLOCK_SECONDS))
        for start in range(0, len(block.samples), step):
            samples = block.samples[start : start + step]
            self._position += len(samples) / self._source_rate
            yield from self._heard(self._resampler.push(samples))

    def finish(self) -> Iterator[SoundWindow]:
        """The stream ends here: the windows that were still to come."""
        yield from self._heard(self._resampler.finish())
        if self._gate is None:
            if self._history.end > self._origin:
                yield from self._closed(self._history.end)
            return
        changes = [*self._gate.push(self._frames.finish()), *self._gate.finish()]
        yield from self._changed(changes)

    def _begin(self) -> None:
        """Start to listen anew, with nothing known of the background."""
        self._origin = self._history.end
        """The sample with which the gate's first frame begins."""
        self._resampler = StreamResampler(self._source_rate, self._rate)
        self._frames = LogMelStream(self._log_mel)
        hop = self._log_mel.frontend.hop
        self._gate = None if self._settings is None else ActivityGate(self._settings, self._rate / hop)
        if self._gate is None:
            self._first = self._next = self._origin

    def _gap(self, frames: int) -> Iterator[SoundWindow]:
        seconds = frames / self._source_rate
        self._lost += seconds
        self._position += seconds
        if seconds <= GAP_SECONDS:
            yield from self._heard(self._resampler.push(np.zeros(frames, np.float32)))
            return
        yield from self.finish()
        self._history.skip(round(self._position * self._rate) - self._history.end)
        self._begin()

    def _heard(self, samples: Samples) -> Iterator[SoundWindow]:
        self._history.append(samples)
        if self._gate is not None:
            yield from self._changed(self._gate.push(self._frames.push(samples)))
        yield from self._full(self._certain())

    def _certain(self) -> int:
        """The sample up to which an activity under way surely lasts."""
        if self._settings is None:
            return self._history.end
        # An open gate was active within its hang-over. The steps are for rounding and what it has not judged yet.
        quiet = self._settings.hang_over_seconds + 4 * STEP_SECONDS
        return self._history.end - self._log_mel.frontend.n_fft - int(quiet * self._rate)

    def _changed(self, changes: list[Activity]) -> Iterator[SoundWindow]:
        hop = self._log_mel.frontend.hop
        for activity in changes:
            if self._first < 0:
                self._first = self._next = self._origin + activity.start * hop
            if activity.end is not None:
                yield from self._closed(min(self._origin + activity.end * hop, self._history.end))

    def _full(self, certain: int) -> Iterator[SoundWindow]:
        """The whole windows of the activity under way that end before `certain`."""
        while self._first >= 0 and self._next + self._length < certain:
            yield self._window(self._next, self._next + self._length, last=False)
            self._next += self._hop

    def _closed(self, end: int) -> Iterator[SoundWindow]:
        """The windows that are left of an activity that ends before the sample `end`."""
        yield from self._full(end)
        whole = self._next > self._first
        yield self._window(end - self._length if whole else self._first, end, last=True)
        self._first = self._next = -1
        self._activity += 1

    def _window(self, start: int, end: int, *, last: bool) -> SoundWindow:
        sound = self._history.take(start, end)
        lost, self._lost = self._lost, 0.0
        return SoundWindow(
            samples=tile(sound, self._length),
            start=start / self._rate,
            end=end / self._rate,
            time=self._time + start / self._rate,
            level_db=level_db(sound, max(1, int(LEVEL_SECONDS * self._rate))),
            activity=self._activity,
            last=last,
            lost=lost,
        )


class History:
    """The last samples of a stream by their place in it, in memory that is taken once."""

    def __init__(self, capacity: int) -> None:
        """Keep at least the last `capacity` samples."""
        # Twice the room: what is kept moves to the front once per capacity and not with every block.
        self._buffer = np.empty(2 * capacity, np.float32)
        self._capacity = capacity
        self._held = 0
        self.end = 0
        """Samples so far."""

    def append(self, samples: Samples) -> None:
        """Add samples (n,), n up to the capacity."""
        if self._held + len(samples) > len(self._buffer):
            kept = self._buffer[self._held - self._capacity : self._held]
            self._buffer[: self._capacity] = kept.copy()
            self._held = self._capacity
        self._buffer[self._held : self._held + len(samples)] = samples
        self._held += len(samples)
        self.end += len(samples)

    def skip(self, count: int) -> None:
        """Go on `count` samples later, with nothing known of what was before."""
        self.end += count
        self._held = 0

    def take(self, start: int, end: int) -> Samples:
        """A copy (end - start,) of the samples from `start` to before `end`, which must still be held."""
        offset = self._held - self.end
        assert 0 <= start + offset < end + offset <= self._held
        return self._buffer[start + offset : end + offset].copy()


def level_db(samples: Samples, stretch: int) -> float:
    """Root mean square of the loudest `stretch` of samples (n,), n ≥ 1, in dB of full scale."""
    power = np.add.reduceat(np.square(samples, dtype=np.float64), np.arange(0, len(samples), stretch))
    counts = np.full(len(power), stretch)
    counts[-1] = len(samples) - stretch * (len(power) - 1)
    # A rest of a few samples is no stretch: one click would be its level.
    whole = power[counts == stretch] / stretch if len(power) > 1 else power / counts
    return max(LEAST_LEVEL_DB, 10 * math.log10(max(float(whole.max()), 1e-30)))
