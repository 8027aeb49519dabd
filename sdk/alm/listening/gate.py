"""When something sounds, whatever it is: log-mel frames to spans of activity.

A gate for any sound and not for speech. `background` says how far each twentieth of a second stands out from the
last seconds; this file turns that into spans with hysteresis, hang-over and pre-roll.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from alm.errors import AlmError, AudioError
from alm.listening.background import Background

Frames = NDArray[np.float32]

STEP_SECONDS = 0.05
"""Time over which power is averaged before anything is decided: a click still fills a step, and there are few."""

LIMITS: dict[str, tuple[float, float]] = {
    "threshold": (0.1, 100.0),
    "close_ratio": (0.05, 1.0),
    "quiet_db": (-100.0, 50.0),
    "min_seconds": (0.0, 10.0),
    "hang_over_seconds": (0.0, 60.0),
    "pre_roll_seconds": (0.0, 60.0),
    "memory_seconds": (2.0, 600.0),
}
"""Accepted values of each setting, ends included."""


@dataclass(frozen=True)
class GateSettings:
    """What counts as activity. AlmError for values outside `LIMITS`."""

    threshold: float = 1.0
    """How far a sound must stand out to open the gate; 1 is tuned, 2 asks for twice as many dB above the floor."""
    close_ratio: float = 0.5
    """The share of the threshold that keeps an open gate open."""
    quiet_db: float = -75.0
    """What lies below this log-mel level in dB is silence, however it changes (digital silence is at -100)."""
    min_seconds: float = 0.05
    """Shortest activity that opens the gate."""
    hang_over_seconds: float = 0.5
    """Quiet that may lie within one activity; after it the gate closes."""
    pre_roll_seconds: float = 0.5
    """Sound before the first sign of activity that belongs to it."""
    memory_seconds: float = 10.0
    """The past that floors come from. A new steady level is activity for six tenths of it, then floor."""

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise AlmError(f"GateSettings.{name}: found {value!r}, expected a number from {low:g} to {high:g}")


@dataclass(frozen=True)
class Activity:
    """A span of sound. Frames count from the first one pushed."""

    start: int
    """First frame, pre-roll included."""
    opened: int
    """The frame before which the gate had heard enough to open."""
    end: int | None
    """One past the last frame with activity; None while it lasts."""
    level_db: float
    """How many dB the loudest moment so far stood above its floor, in the part of the spectrum that rose most."""


class ActivityGate:
    """Says where a stream of log-mel frames is active. One thread uses a gate at a time.

    The result does not depend on how the frames are split into pushes. The first second is judged once all of it is
    there, since nothing is known of the background before. In the first five seconds whatever is loud opens it, so
    that a recording which begins with its sound is heard; what lasts longer is the background.
    """

    def __init__(self, settings: GateSettings, frame_rate: float) -> None:
        """`frame_rate` is in frames per second, the frontend's sample_rate / hop. AlmError unless 10 to 10000."""
        if not 10 <= frame_rate <= 10_000:
            raise AlmError(f"found a frame rate of {frame_rate:g} per second, expected 10 to 10000")
        self.settings = settings
        """What it was made with."""
        self._step = max(1, round(STEP_SECONDS * frame_rate))
        steps_per_second = frame_rate / self._step
        self._min_steps = max(1, math.ceil(settings.min_seconds * steps_per_second))
        self._hang_over = math.ceil(settings.hang_over_seconds * steps_per_second)
        self._memory = math.ceil(settings.memory_seconds * steps_per_second)
        self._pre_roll = round(settings.pre_roll_seconds * frame_rate)
        self._background: Background | None = None
        self._rest = np.empty((0, 0), np.float32)  # frames of a step that is not complete
        self._frames = 0
        self._judged = 0  # steps, the first one included
        self._loud = 0  # consecutive steps up to the last judged one that would open the gate
        self._peak = 0.0
        self._last_active = 0  # step
        self._free = 0  # first frame that belongs to no activity yet
        self._current: Activity | None = None

    @property
    def is_open(self) -> bool:
        """Whether an activity is under way."""
        return self._current is not None

    def push(self, log_mel: Frames) -> list[Activity]:
        """Take the next frames (k, mels) in dB, any k, and return what changed, in order.

        An activity is returned when the gate opens (`end` is None) and again, complete, when it has closed. Raises
        AudioError unless the frames are finite and as wide as the ones before.
        """
        background = self._checked(log_mel)
        self._frames += len(log_mel)
        frames = np.concatenate([self._rest, log_mel]) if len(self._rest) else log_mel
        whole = len(frames) // self._step * self._step
        self._rest = frames[whole:].copy()
        steps = frames[:whole].reshape(-1, self._step, frames.shape[1])
        if not self._judged:
            # The sound is reflected at its start, and the kink of a hum there is louder than what lies between its
            # harmonics: the first step is passed over.
            self._judged = min(1, len(steps))
            steps = steps[1:]
        changes = []
        for standing in background.judge(self._powers(steps)) if len(steps) else ():
            changes += self._follow(standing)
            background.hold = self.is_open
        return changes

    def finish(self) -> list[Activity]:
        """The sound ends: the changes that were still to come. An activity under way ends with it.

        The last frames, less than a step, are not judged: the sound is reflected there, as at its start.
        """
        if self._background is None:
            return []
        changes = self._follow(self._background.finish())
        if self._current is not None:
            changes.append(self._closed(self._current))
        return changes

    def _checked(self, log_mel: Frames) -> Background:
        if log_mel.ndim != 2 or (self._background is not None and log_mel.shape[1] != self._rest.shape[1]):
            bands = self._rest.shape[1] or "mels"
            raise AudioError(f"the gate found log-mel frames of shape {log_mel.shape}, expected (frames, {bands})")
        if not np.isfinite(log_mel).all():
            raise AudioError("the gate found NaN or infinite log-mel values; sources must hand out finite samples")
        if self._background is None:
            self._background = Background(log_mel.shape[1], self._memory)
            self._rest = np.empty((0, log_mel.shape[1]), np.float32)
        return self._background

    def _powers(self, steps: Frames) -> Frames:
        """Frames (n, step, mels) in dB to the dB of their mean power (n, mels), which a click shows up in."""
        powers: Frames = np.power(np.float32(10), steps * np.float32(0.1)).mean(axis=1)
        decibels: Frames = np.float32(10) * np.log10(powers)
        return np.maximum(decibels, np.float32(self.settings.quiet_db))

    def _follow(self, standing: Frames) -> list[Activity]:
        changes = []
        for score, rise in standing.T.tolist():
            score /= self.settings.threshold
            self._loud = self._loud + 1 if score >= 1 else 0
            if self._current is None:
                self._peak = max(self._peak, rise) if self._loud > 1 else rise
                if self._loud >= self._min_steps:
                    changes.append(self._opened())
            elif score >= self.settings.close_ratio:
                self._peak = max(self._peak, rise)
                self._last_active = self._judged
            elif self._judged - self._last_active > self._hang_over:
                changes.append(self._closed(self._current))
            self._judged += 1
        return changes

    def _opened(self) -> Activity:
        first = (self._judged + 1 - self._loud) * self._step
        start = max(self._free, first - self._pre_roll, 0)
        self._last_active = self._judged
        self._current = Activity(start, (self._judged + 1) * self._step, None, self._peak)
        return self._current

    def _closed(self, activity: Activity) -> Activity:
        lasts = self._last_active == self._judged - 1
        end = self._frames if lasts else (self._last_active + 1) * self._step
        self._current, self._free = None, end
        return replace(activity, end=end, level_db=self._peak)
