"""A queue with a limit between one thread and another, or a thread and a coroutine."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Generic, Self, TypeVar

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

T = TypeVar("T")


class Bounded(Iterator[T], Generic[T]):
    """Items in order, at most `limit` of them, taken with `next` or `anext`.

    The writer ends it: the reader gets what is left, then the writer's error or the end. Anyone closes it: what is
    left is forgotten, and whoever waits stops waiting.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._waiters: list[tuple[AbstractEventLoop, Future[None]]] = []
        self._ended = False
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Add an item once there is room."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(self._items) < self._limit)
            self._add(item)

    def push(self, item: T) -> T | None:
        """Add an item at once; the oldest, which must leave when there is no room, is returned."""
        with self._changed:
            oldest = self._items.popleft() if len(self._items) == self._limit else None
            self._add(item)
            return oldest

    def end(self, error: BaseException | None = None) -> None:
        """No more items will come; `error` is raised after the last one."""
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
            self._notify()

    def close(self) -> None:
        """Forget the items. Closing twice is fine."""
        with self._changed:
            self._ended, self._error = True, None
            self._items.clear()
            self._notify()

    def __next__(self) -> T:
        with self._changed:
            self._changed.wait_for(self._ready)
            return self._take()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        from asyncio import get_running_loop

        while True:
            with self._changed:
                if self._ready():
                    try:
                        return self._take()
                    except StopIteration:
                        raise StopAsyncIteration from None
                # No thread waits for the item, so a wait that is cancelled takes none away.
                loop = get_running_loop()
                waiter = loop.create_future()
                self._waiters.append((loop, waiter))
            await waiter

    def _ready(self) -> bool:
        return bool(self._items) or self._ended

    def _add(self, item: T) -> None:
        if not self._ended:
            self._items.append(item)
            self._notify()

    def _take(self) -> T:
        if self._items:
            item = self._items.popleft()
            self._notify()
            return item
        error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def _notify(self) -> None:
        self._changed.notify_all()
        waiters, self._waiters = self._waiters, []
        for loop, waiter in waiters:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_wake, waiter)


def _wake(waiter: Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
