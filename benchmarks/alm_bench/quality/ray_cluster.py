"""Work on the cores of a Ray cluster. Ray deals it out, restarts what dies and hands back each result once."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from alm.errors import DependencyError
from alm_bench.quality.asking import Done, Work, answer
from alm_bench.quality.items import TaskError
from alm_bench.quality.processes import WAITING

RETRIES = 1
"""How often Ray tries a piece of work again whose process died, as `on_processes` does."""


def on_ray(package: str, works: Iterable[Work], address: str) -> Iterator[Done]:
    """Answer every piece of work, in the order in which it is finished. Every core of the cluster takes one at a time.

    Package and recordings are read by path, so each machine needs them at the same place, and this project installed.
    Raises DependencyError without Ray, TaskError when no cluster answers at `address`.
    """
    ray = _ray()
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="warning")
    except (OSError, ValueError, RuntimeError) as error:
        raise TaskError(
            f"no Ray cluster at {address}: {error}. Start one with 'ray start --head' and pass the address it prints"
        ) from error
    try:
        yield from _deal(ray, package, iter(works))
    finally:
        ray.shutdown()


def _deal(ray: Any, package: str, source: Iterator[Work]) -> Iterator[Done]:
    run = ray.remote(num_cpus=1, max_retries=RETRIES)(answer)
    room = max(1, int(ray.cluster_resources().get("CPU", 1))) * WAITING
    running: dict[Any, Work] = {}
    while True:
        for work in islice(source, room - len(running)):
            running[run.remote(package, 1, work)] = work
        if not running:
            return
        finished, _ = ray.wait(list(running), num_returns=1)
        for reference in finished:
            work = running.pop(reference)
            try:
                yield ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except ray.exceptions.RayError as error:
                yield Done.nothing(work, f"the process that worked on it died: {type(error).__name__}")


def _knock(address: str) -> None:
    """Raise OSError when nothing listens at HOST:PORT, which Ray itself takes minutes to find out."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.removeprefix("ray://"), int(port)), timeout=10).close()


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise DependencyError("--ray needs Ray: pip install 'alm-edge[ray]'") from None
    return ray
