"""What was heard, in words: one event per description, however many windows of an activity it goes on for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from alm.answering.answers import Answer, Timing
from alm.listening.windows import SoundWindow

LONGEST_SECONDS = 60.0
"""An event that goes on is given out after this time, and another one goes on from there."""


@dataclass(frozen=True)
class Event:
    """Something that was heard."""

    start: float
    """Seconds since the stream began."""
    end: float
    """Seconds since the stream began at which it was over."""
    text: str
    """What the model said about it."""
    level_db: float
    """Root mean square of its loudest tenth of a second, dB of full scale."""
    time: float | None
    """UNIX time of `start`; None for a recording."""
    lost: float
    """Seconds of sound that were lost, and so not heard, since the event before."""
    timing: Timing = field(compare=False)
    """Where the time of its last answer went."""


class Merging:
    """Joins the answers about consecutive windows to events.

    Windows of one activity that touch and are described in the same words are one event. It is final when its
    activity ends, when the words change, or after a minute.
    """

    def __init__(self) -> None:
        self._pending: tuple[int, Event] | None = None

    def add(self, window: SoundWindow, answer: Answer, lost: float) -> Iterator[Event]:
        """Take the answer about the next window, give out the events that are now final.

        `lost` is the sound in seconds that was lost since the window before.
        """
        event = Event(
            start=window.start,
            end=window.end,
            text=answer.text.strip(),
            level_db=window.level_db,
            time=None if math.isnan(window.time) else window.time,
            lost=lost,
            timing=answer.timing,
        )
        if (joined := self._joined(window.activity, event)) is not None:
            event = joined
        else:
            yield from self.finish()
        self._pending = (window.activity, event)
        if window.last or event.end - event.start >= LONGEST_SECONDS:
            yield from self.finish()

    def finish(self) -> Iterator[Event]:
        """The event that was not final yet, if there is one."""
        pending, self._pending = self._pending, None
        if pending is not None:
            yield pending[1]

    def _joined(self, activity: int, event: Event) -> Event | None:
        if self._pending is None:
            return None
        same, before = self._pending
        if same != activity or before.text != event.text or event.start > before.end:
            return None
        level = max(before.level_db, event.level_db)
        return replace(before, end=event.end, level_db=level, lost=before.lost + event.lost, timing=event.timing)
