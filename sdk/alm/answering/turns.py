"""Turns on one engine: runs go one at a time, first come, first served, and few questions wait.

A run (an encoder pass, a prefill, a token) already uses every core the engine was given. When the runs of several
questions go at once, all are answered up to 11 % sooner than in turns, but the first tokens come 1.6 times as late, and
memory is higher (docs/sessions.md, "Measured"). So a run waits until those before it are done, and a
question gives way after each of its tokens: several advance together. A turn is held during a run and never between
two, so an answer that nobody reads on holds up nobody.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from alm.engines.base import Float32, KVCache
from alm.errors import AlmError, BusyError

WAITING = 16
"""Questions that wait by default; at full size each takes some 20 MB of keys and values while it is answered."""


class Stopped(Exception):
    """Raised where a question would run on, or waits to, after it was stopped. Callers of the SDK never see it."""


class Turns:
    """Who may run on an engine now, and who may wait. Safe to use from several threads."""

    def __init__(self, waiting: int = WAITING) -> None:
        """At most `waiting` questions wait while another is answered. AlmError unless it is a whole number from 0."""
        if not isinstance(waiting, int) or isinstance(waiting, bool) or waiting < 0:
            raise AlmError(f"waiting is {waiting!r}; it must be a whole number, at least 0")
        self.waiting = waiting
        """Questions that may wait while another is answered."""
        self._mutex = threading.Lock()
        self._running: _Ticket | None = None
        # Empty whenever nothing runs: who gives up a turn passes it on.
        self._line: deque[_Ticket] = deque()
        self._inside = 0

    def question(self) -> Question:
        """A question that is about to be asked. BusyError when too many wait, here and when it is entered."""
        with self._mutex:
            self._check_room()
        return Question(self)

    @contextmanager
    def turn(self, question: Question | None = None) -> Iterator[None]:
        """Wait for a turn and hold it while the block runs. Stopped once `question` was stopped."""
        ticket = _Ticket(question)
        # Also a Ctrl-C while waiting leaves the line, and one that comes with the turn passes it on.
        try:
            self._take(ticket)
            yield
        finally:
            self._give_up(ticket)

    def _check_room(self) -> None:
        if self._inside > self.waiting:
            raise BusyError(
                f"{self._inside} questions are being answered, and waiting={self.waiting} lets no more wait; "
                "ask again when one is done, or load the model with a larger number for waiting"
            )

    def _take(self, ticket: _Ticket) -> None:
        with self._mutex:
            if ticket.stopped:
                raise Stopped
            if self._running is None:
                self._running = ticket
                ticket.called.set()
            else:
                self._line.append(ticket)
        ticket.called.wait()
        if ticket.stopped:
            raise Stopped

    def _give_up(self, ticket: _Ticket) -> None:
        with self._mutex:
            if self._running is ticket:
                self._running = self._line.popleft() if self._line else None
                if self._running is not None:
                    self._running.called.set()
            elif ticket in self._line:
                self._line.remove(ticket)

    def _enter(self, question: Question) -> None:
        with self._mutex:
            if not question.depth:
                if not question.begun:
                    self._check_room()
                self._inside += 1
            question.begun = True
            question.depth += 1

    def _leave(self, question: Question) -> None:
        with self._mutex:
            question.depth -= 1
            if not question.depth:
                self._inside -= 1

    def _stop(self, question: Question) -> None:
        with self._mutex:
            question.stopped = True
            for ticket in self._line:
                if ticket.question is question:
                    ticket.called.set()


class Question:
    """One question on its way through an engine: counted while it is worked on, stopped from any thread.

    `with question:` counts it. The first time raises BusyError when the model has as many as may wait; once it has
    begun it is never refused, so an answer that was read half can always be read on.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.depth = 0
        """How many blocks count it now; it counts once however many. Changed by `Turns` only."""
        self.begun = False
        """Whether it was ever let in. Changed by `Turns` only."""
        self.stopped = False
        """Whether `stop` was called."""

    def stop(self) -> None:
        """Begin no further run; a run that waits for its turn leaves the line at once."""
        self._turns._stop(self)

    def __enter__(self) -> None:
        self._turns._enter(self)

    def __exit__(self, *_: object) -> None:
        self._turns._leave(self)


class TurnCache:
    """A KV cache whose runs take turns with those of other questions."""

    def __init__(self, cache: KVCache, turns: Turns, question: Question | None = None) -> None:
        self._cache = cache
        self._turns = turns
        self._question = question

    @property
    def length(self) -> int:
        """Positions held."""
        return self._cache.length

    @property
    def capacity(self) -> int:
        """Positions that fit."""
        return self._cache.capacity

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the positions take."""
        return self._cache.nbytes

    def append(self, embeddings: Float32) -> Float32:
        """`KVCache.append` in a turn of its own."""
        with self._turns.turn(self._question):
            return self._cache.append(embeddings)

    def append_all(self, embeddings: Float32) -> Float32:
        """`KVCache.append_all` in a turn of its own."""
        with self._turns.turn(self._question):
            return self._cache.append_all(embeddings)

    def rewind(self, length: int) -> None:
        """Forget every position from `length` on."""
        self._cache.rewind(length)

    def fork(self) -> TurnCache:
        """An independent cache with the same positions, for the same question."""
        return TurnCache(self._cache.fork(), self._turns, self._question)

    def state(self) -> Float32:
        """As of `KVCache.state`."""
        return self._cache.state()


class _Ticket:
    """A place in the line."""

    def __init__(self, question: Question | None) -> None:
        self.question = question
        self.called = threading.Event()

    @property
    def stopped(self) -> bool:
        return self.question is not None and self.question.stopped
