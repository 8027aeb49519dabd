"""Watching a source: sound goes in on one side and events come out on the other, for any length of time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Self

from alm.answering.answers import Answer
from alm.answering.streaming import AnswerStream
from alm.closing import Closing
from alm.errors import AlmError, BusyError
from alm.listening.blocks import LiveSource
from alm.listening.bounded import Bounded
from alm.listening.events import Event, Merging
from alm.listening.windows import SoundWindow, Windower

WINDOWS_WAITING = 8
"""Windows of a live source that wait for the model; 10 MB of sound where a window is 10 s at 32 kHz."""
EVENTS_WAITING = 64
"""Events that wait for the consumer."""
BUSY_SECONDS = 0.05
"""Pause before a question is asked again that the model had no room for."""

Ask = Callable[[SoundWindow, str], AnswerStream]
"""Begins the answer about a window; the text is a draft of it."""


class WatchStream(Closing, Iterator[Event]):
    """The events of a source, as an iterator and an async iterator. Made by `model.watch`.

    One thread asks the model, and another listens to a live source. Nothing grows when the model or the consumer is
    slower than the sound: a recording or a pipe waits; of a live source the oldest waiting window is dropped, and
    the next event counts it in `lost`. What goes wrong is raised after the events before it.

    `close()`, from any thread, ends it: the source is closed, no thread is left, and events that were not taken are
    forgotten. Leaving `with` closes; so do the end of the sound, an error, and Ctrl-C while waiting for an event.
    """

    def __init__(self, source: LiveSource, windower: Windower, ask: Ask) -> None:
        """Begin to listen; `close` closes the source too."""
        self._source = source
        self._windower = windower
        self._ask = ask
        self._windows: Bounded[SoundWindow] = Bounded(WINDOWS_WAITING)
        self._events: Bounded[Event] = Bounded(EVENTS_WAITING)
        self._closing = threading.Event()
        self._answering: AnswerStream | None = None
        self._mutex = threading.Lock()
        self._dropped = 0.0
        work = {"answer": self._answer_all}
        if source.live:
            work["listen"] = self._listen
        self._threads = [
            threading.Thread(target=run, name=f"alm-watch-{name}", daemon=True) for name, run in work.items()
        ]
        for thread in self._threads:
            thread.start()

    def __next__(self) -> Event:
        try:
            return next(self._events)
        except BaseException:
            self.close()
            raise

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event. A wait that is cancelled or times out takes no event away and closes nothing."""
        try:
            return await anext(self._events)
        except (Exception, KeyboardInterrupt):
            self.close()
            raise

    def close(self) -> None:
        """End it, from any thread; returns when its threads are gone. Closing twice is fine."""
        self._closing.set()
        self._source.close()
        self._windows.close()
        self._events.close()
        # The thread that answers looks at `_closing` after it set this, so one of the two closes the answer.
        answering = self._answering
        if answering is not None:
            answering.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _cut(self) -> Iterator[SoundWindow]:
        """The windows of the source. An error comes after what was heard before it."""
        failure: Exception | None = None
        try:
            for block in self._source.blocks():
                yield from self._windower.push(block)
        except AlmError as error:
            failure = error
        yield from self._windower.finish()
        if failure is not None:
            raise failure

    def _listen(self) -> None:
        """The thread of a live source: it never waits for the model."""
        failure: BaseException | None = None
        try:
            for window in self._cut():
                dropped = self._windows.push(window)
                if dropped is not None:
                    with self._mutex:
                        self._dropped += dropped.end - dropped.start + dropped.lost
        except BaseException as error:
            failure = error
        self._windows.end(failure)

    def _answer_all(self) -> None:
        """The thread that asks the model."""
        merging, draft = Merging(), ""
        failure: BaseException | None = None
        try:
            for window in self._windows if self._source.live else self._cut():
                answer = self._answered(window, draft)
                if answer is None:
                    return
                draft = answer.text
                for event in merging.add(window, answer, window.lost + self._take_dropped()):
                    self._events.put(event)
        except BaseException as error:
            failure = error
        for event in merging.finish():
            self._events.put(event)
        self._events.end(failure)

    def _take_dropped(self) -> float:
        with self._mutex:
            dropped, self._dropped = self._dropped, 0.0
            return dropped

    def _answered(self, window: SoundWindow, draft: str) -> Answer | None:
        """The answer about a window; None when `close` was called."""
        while not self._closing.is_set():
            try:
                self._answering = self._ask(window, draft)
                if not self._closing.is_set():
                    return self._answering.finish()
                self._answering.close()
            except BusyError:
                self._closing.wait(BUSY_SECONDS)
            except AlmError:
                if not self._closing.is_set():
                    raise
        return None
