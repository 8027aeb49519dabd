"""The iterator behind `stream`: pieces first, the whole answer at the end, cancelled from any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from typing import ParamSpec, TypeVar

from alm.answering.answers import Answer, Piece
from alm.answering.turns import Question, Stopped
from alm.closing import Closing
from alm.errors import AlmError

P = ParamSpec("P")
T = TypeVar("T")


class AnswerStream(Closing, Iterator[Piece]):
    """Pieces of an answer as they are generated.

    `close()`, also from another thread, cancels: the token under way is finished and no other is begun. Between
    two pieces nothing is held but memory. The first piece raises BusyError when as many questions as may wait do;
    it can be taken later then. Later pieces are never refused.
    """

    def __init__(self, pieces: Generator[Piece, None, Answer], question: Question) -> None:
        self._pieces = pieces
        self._question = question
        self._answer: Answer | None = None
        # A generator must not be entered twice at once; close() may come while another thread is inside.
        self._inside = threading.Lock()

    def __next__(self) -> Piece:
        with self._inside:
            if self._question.stopped:
                self._pieces.close()
                raise StopIteration
            try:
                with self._question:
                    return next(self._pieces)
            except StopIteration as end:
                self._answer = self._answer or end.value
                raise
            except Stopped:
                raise StopIteration from None

    @property
    def answer(self) -> Answer:
        """The whole answer, once every piece has been taken. AlmError before that and after a cancel."""
        if self._answer is None:
            state = "was cancelled" if self._question.stopped else "has pieces left"
            raise AlmError(f"the answer is not complete: the stream {state}; take all pieces first")
        return self._answer

    def finish(self) -> Answer:
        """Take the pieces that are left and return the whole answer."""
        with self._question:
            for _ in self:
                pass
        return self.answer

    def close(self) -> None:
        """Cancel. Closing twice, or after the last piece, is fine."""
        self._question.stop()
        if self._inside.acquire(blocking=False):
            try:
                self._pieces.close()
            finally:
                self._inside.release()


async def on_worker(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `work` on a worker thread while the event loop goes on."""
    # Imported here: asyncio is a fifth of the time that `import alm` takes, and most programs do without it.
    from asyncio import to_thread

    return await to_thread(work, *args, **kwargs)
