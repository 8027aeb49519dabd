"""What a place usually sounds like, and how far the present stands out: the floors and spreads behind the gate.

Detectors watch groups of neighbouring mel bands and the whole spectrum as they are now, and, averaged over the last
half second, single bands and groups: loudness and novelty of the spectrum, fast and slow. Each keeps its own floor
and its own usual spread, both quantiles of its recent past (in the spirit of minimum statistics, Martin 2001, but
from the middle of the past, so that the spread can be told too). A quantile leaves out what sounds for a part of that
time: an event does not raise its own floor, and a level that stays becomes the floor.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Decibels = NDArray[np.float32]

SETTLE_STEPS = 19
"""Steps that must be there before anything is judged; they are judged then."""
SLOW_STEPS = 10
"""Steps that a slow detector averages: 0.5 s, which finds a sound that is barely above a rough background."""
REFRESH_STEPS = 4
"""Steps between two looks at the past; sorting it is the dearest part of the gate."""
GROUP = 8
"""Bands of a group; groups overlap by half."""
OPENING_STEPS = 100
"""Steps at the start of a stream, 5 s, in which what is loud stands out whatever its floor: nobody knows yet what
the place usually sounds like, and a recording that begins with its sound would not be heard at all."""
OPENING_DB = -35.0
"""Level of a group that counts as loud there; white noise of -46 dBFS reaches it."""
OPENING_STEP_DB = 10.0
"""So much louder says one more, for those who ask for sounds that stand out far."""
FLOOR, LOW, HIGH = 0.4, 0.2, 0.7
"""Quantiles of the past: the first is the floor, the distance of the second to it is the spread."""
HIGH_WEIGHT = 0.8
"""The distance of the third, times this, is the spread where it is more: gusts and waves rise more than they fall.
Measured at equal detection and equal false alarms on steady backgrounds: 20 an hour on the others against 94. Higher
quantiles would save more and be deaf to a second bark soon after the first."""
MOST_RISE_DB = 2.5
"""Most that this makes of a spread. What rises further is a sound and no gust, and must not hide those after it:
without this, of 120 ESC-50 clips of 5 s with 2 to 3 s of quiet noise between them, 65 were found; with it all are."""
MIN_SPREAD_DB = 1.5
"""Least spread: a steady hum has next to none, and a tenth of a dB is no event."""
FAST = {"group": 13.4, "all": 9.6}
"""Spreads above the floor at which a detector of the present says 1. Single bands are too rough for it.

Tuned with `alm_bench.studies.gate --half tuning` for about six false alarms per hour on steady backgrounds."""
SLOW = {"band": 8.6, "group": 9.1}
"""The same for the slow detectors."""


class Background:
    """The recent past of a stream of steps, each the mean power per mel band in dB."""

    def __init__(self, bands: int, memory_steps: int) -> None:
        """Watch steps of `bands` values and remember `memory_steps` of them."""
        kinds = _kinds(bands)
        fast, slow = ([kinds[kind] for kind in table] for table in (FAST, SLOW))
        self._fast, self._slow = np.concatenate(fast, axis=1), np.concatenate(slow, axis=1)
        self._groups = kinds["group"].shape[1]  # the first detectors of all
        marks = np.array([*FAST.values(), *SLOW.values()], np.float32)
        self._marks = np.repeat(marks, [block.shape[1] for block in (*fast, *slow)])
        self._past = np.empty((len(self._marks), memory_steps), np.float32)
        self._floor = self._mark_db = np.zeros(len(self._marks), np.float32)
        self._recent = np.empty((0, bands), np.float32)
        self._steps = 0
        self.hold = False
        """Whether spreads stay as they are. They would take in a sound that lasts, and end it before its time."""

    def judge(self, steps: Decibels) -> Iterator[Decibels]:
        """How far each of the steps (n, bands) stands out (1 opens the gate), and by how many dB: rows of (2, m).

        Until SETTLE_STEPS are there nothing is given out; then all of them are judged at once. After each of the
        arrays `hold` may be set, before the next one is asked for.
        """
        values = self._detect(steps)
        while len(values):
            settled = self._steps >= SETTLE_STEPS
            due = REFRESH_STEPS - self._steps % REFRESH_STEPS if settled else SETTLE_STEPS - self._steps
            part, values = values[:due], values[due:]
            if settled:
                yield self._compare(part, self._steps)
            self._remember(part)
            if self._steps == SETTLE_STEPS:
                yield self._settle()
            elif settled and self._steps % REFRESH_STEPS == 0:
                self._refresh()

    def finish(self) -> Decibels:
        """The sound ends: what `judge` still held back, (2, m), judged by as much as there is."""
        return self._settle() if 0 < self._steps < SETTLE_STEPS else np.empty((2, 0), np.float32)

    def _detect(self, steps: Decibels) -> Decibels:
        """Values (n, detectors) in dB."""
        if not len(self._recent):
            self._recent = steps[:1].repeat(SLOW_STEPS - 1, axis=0)
        row = np.concatenate([self._recent, steps])
        self._recent = row[len(row) - SLOW_STEPS + 1 :]
        smooth = np.lib.stride_tricks.sliding_window_view(row, SLOW_STEPS, axis=0).mean(axis=-1)
        return np.concatenate([steps @ self._fast, smooth @ self._slow], axis=1)

    def _compare(self, values: Decibels, first: int) -> Decibels:
        """Scores and rises of the detectors that stand out most, (2, n), in steps counted from `first`."""
        rises = values - self._floor
        scores = rises / self._mark_db
        top = scores.argmax(axis=1)[:, None]
        standing = np.concatenate([np.take_along_axis(scores, top, 1), np.take_along_axis(rises, top, 1)], axis=1).T
        above = values[: max(0, OPENING_STEPS - first), : self._groups].max(axis=1) - np.float32(OPENING_DB)
        loud = np.flatnonzero(above > 0)
        standing[0, loud] = np.maximum(standing[0, loud], 1 + above[loud] / np.float32(OPENING_STEP_DB))
        standing[1, loud] = np.maximum(standing[1, loud], above[loud])
        return standing

    def _remember(self, values: Decibels) -> None:
        places = np.arange(self._steps, self._steps + len(values)) % self._past.shape[1]
        self._past[:, places] = values.T
        self._steps += len(values)

    def _settle(self) -> Decibels:
        self._refresh()
        return self._compare(self._past[:, : self._steps].T, 0)

    def _refresh(self) -> None:
        known = min(self._steps, self._past.shape[1])
        # A whole sort: with vector instructions it is four times faster than a partition (0.09 against 0.44 ms).
        ordered = np.sort(self._past[:, :known], axis=1)
        self._floor, low, high = (ordered[:, int(share * (known - 1))] for share in (FLOOR, LOW, HIGH))
        if self.hold:
            return
        rise = np.minimum(np.float32(HIGH_WEIGHT) * (high - self._floor), np.float32(MOST_RISE_DB))
        spread = np.maximum(self._floor - low, rise)
        self._mark_db = self._marks * np.maximum(spread, MIN_SPREAD_DB)


def _kinds(bands: int) -> dict[str, Decibels]:
    """Matrices (bands, detectors) that average the bands each detector watches."""
    width = min(GROUP, bands)
    starts = np.arange(0, bands - width + 1, max(1, width // 2))
    inside = (np.arange(bands)[:, None] >= starts) & (np.arange(bands)[:, None] < starts + width)
    return {
        "band": np.eye(bands, dtype=np.float32),
        "group": inside.astype(np.float32) / np.float32(width),
        "all": np.full((bands, 1), 1 / bands, np.float32),
    }
