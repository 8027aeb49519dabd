"""The same work on a Ray cluster of two nodes, each a process tree of its own on this machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

pytest.importorskip("ray", reason="needs Ray: pip install 'alm-edge[ray]', or make test-ray")
from alm_bench.quality import ray_cluster
from alm_bench.quality.asking import Done, Question, Work
from alm_bench.quality.items import TaskError
from alm_bench.quality.processes import on_processes
from alm_bench.quality.ray_cluster import on_ray

if TYPE_CHECKING:
    from alm_export.pipeline import Exported


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A head without cores and two nodes with one each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
        yield cluster.address
    finally:
        cluster.shutdown()


@pytest.fixture
def works(tmp_path: Path) -> list[Work]:
    random = np.random.default_rng(0)
    for clip in range(6):
        soundfile.write(tmp_path / f"{clip}.wav", 0.1 * random.standard_normal(16000), 16000)
    (tmp_path / "4.wav").write_bytes(b"no sound")
    asked = (Question("q", "choose", "what is the sound?", ("rain", "siren")),)
    return [Work((str(tmp_path / f"{clip}.wav"),), asked) for clip in range(6)]


def test_a_cluster_answers_as_this_machine_does(address: str, tiny_package: Path, works: list[Work]) -> None:
    found = list(on_ray(str(tiny_package), works, address))
    expected = list(on_processes(str(tiny_package), works, 1))
    assert sorted(map(repr, found)) == sorted(map(repr, expected))
    assert [done.work for done in found if done.failed] == [works[4]]


def test_a_cluster_scores_as_this_machine_does(
    address: str, tiny_space: Callable[..., Exported], works: list[Work]
) -> None:
    scoring = [Work(work.sources, (Question("score", "score"),)) for work in works]
    package = str(tiny_space("pam").path)
    found, expected = list(on_ray(package, scoring, address)), list(on_processes(package, scoring, 1))
    assert sorted(map(repr, found)) == sorted(map(repr, expected))
    assert sum(done.said["score"]["windows"] > 0 for done in found if done.said) == 5


def test_each_clip_counts_once_when_processes_die(
    address: str, works: list[Work], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()

    def dies(package: str, threads: int, work: Work) -> Done:
        mark = marks / Path(work.sources[0]).name
        first = not mark.exists()
        mark.touch()
        if "2.wav" in work.sources[0] or ("3.wav" in work.sources[0] and first):
            os.kill(os.getpid(), signal.SIGKILL)
        return Done(work, {"q": os.getpid()})

    monkeypatch.setattr(ray_cluster, "answer", dies)
    found = list(on_ray("none", works, address))
    assert sorted(done.work.sources for done in found) == [work.sources for work in works]
    assert [done.work for done in found if done.failed] == [works[2]]
    assert "died" in next(done.failed["q"] for done in found if done.failed)


def test_a_package_that_cannot_be_loaded_ends_the_run(address: str, works: list[Work], tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"no\.alm"):
        list(on_ray(str(tmp_path / "no.alm"), works, address))


def test_no_cluster() -> None:
    with pytest.raises(TaskError, match=r"no Ray cluster at 127\.0\.0\.1:1"):
        list(on_ray("none", [], "127.0.0.1:1"))
