"""Work on all cores of this machine: processes with a model each."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import connection, get_context, parent_process

from alm_bench.quality.asking import Done, Work, answer

WAITING = 2
"""Pieces of work handed out per process: one that runs and one that waits, so that none idles and few are lost."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def on_processes(package: str, works: Iterable[Work], workers: int) -> Iterator[Done]:
    """Answer every piece of work, in the order in which it is finished.

    When a process dies (killed, out of memory, a crash in native code), whatever was handed out is tried again, each
    piece in a process of its own; one that kills that too has no answers but this reason.
    """
    source, threads = iter(works), max(1, cores() // workers)
    while lost := (yield from _pool(package, source, workers, threads)):
        for work in lost:
            if (yield from _pool(package, iter([work]), 1, threads)):
                yield Done.nothing(work, "the process that worked on it died twice: killed, out of memory or crashed")


def _pool(package: str, source: Iterator[Work], workers: int, threads: int) -> Generator[Done, None, list[Work]]:
    """Work on `source` until it ends, or a process dies; returns what was lost then."""
    running: dict[Future[Done], Work] = {}
    lost: list[Work] = []
    # Spawned, because a forked child inherits the locks of engine threads that it does not have.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_leave_with_parent) as pool:
        while True:
            if not lost:
                try:
                    for work in islice(source, workers * WAITING - len(running)):
                        running[pool.submit(answer, package, threads, work)] = work
                except BrokenProcessPool:
                    lost.append(work)
            if not running:
                return lost
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                work = running.pop(future)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    lost.append(work)


def _leave_with_parent() -> None:
    # A killed parent closes no queue that its children would notice: they would wait for work, with a model each.
    parent = parent_process()
    assert parent is not None
    threading.Thread(target=_leave_after, args=(parent.sentinel,), daemon=True).start()


def _leave_after(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
