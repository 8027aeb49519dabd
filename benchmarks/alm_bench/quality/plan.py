"""What a run will ask: the examples whose audio is there, and the rest by name."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from alm_bench.quality.asking import Question, Work
from alm_bench.quality.audio_files import AudioFolder
from alm_bench.quality.items import Item, TaskError
from alm_bench.quality.task_files import TaskFolder
from alm_bench.quality.tasks import TASKS, Task

MOST_MISSING = 0.5
"""Share of recordings that may be missing: beyond it, the run would be about another benchmark than its files."""


@dataclass(frozen=True)
class Plan:
    """Examples of the wanted tasks, with their audio."""

    items: tuple[Item, ...]
    """Those whose recordings are all there, at most the limit's clips per group."""
    paths: Mapping[str, Path]
    """Recordings by the names that task files use."""
    recordings: int
    """Recordings that the task files name."""
    missing: tuple[str, ...]
    """Those that are not there."""
    without_audio: int
    """Examples left out because a recording is missing."""

    def works(self, capabilities: Collection[str]) -> Iterator[Work]:
        """What a package with these capabilities is asked, clip by clip."""
        ordered = sorted(self.items, key=lambda item: item.audio)
        for audio, members in groupby(ordered, key=lambda item: item.audio):
            asked: dict[str, Question] = {}
            for item in members:
                asked.update((q.id, q) for q in TASKS[item.task].questions(item, capabilities))
            if asked:
                yield Work(tuple(str(self.paths[name]) for name in audio), tuple(asked.values()))


def make_plan(folder: TaskFolder, tasks: Mapping[str, Task], audio: AudioFolder, limit: int | None) -> Plan:
    """Find the recordings of the wanted tasks.

    `limit` takes that many clips per group, and as many to fit on, spread over the files by a hash of the clip's name.
    Raises TaskError when a task has no examples, or most recordings are missing.
    """
    wanted = [item for item in folder.items if item.task in tasks]
    for task in tasks:
        if not any(item.task == task for item in wanted):
            files = ", ".join(f"{name} ({kind})" for name, kind in folder.files.items())
            there = sorted({item.task for item in folder.items})
            raise TaskError(f"the files {files} have no examples of {task}; they have {', '.join(there)}")
    paths, missing = audio.find_all(name for item in wanted for name in item.audio)
    recordings = len(paths) + len(missing)
    if len(missing) > MOST_MISSING * recordings:
        raise TaskError(
            f"{len(missing)} of the {recordings} recordings that the task files name are not below {audio.folder}, "
            f"such as {', '.join(repr(name) for name in missing[:3])}. Put the audio there under these names (any "
            "folder below it, any audio format), or pass the folder that has it with --audio"
        )
    present = [item for item in wanted if all(name in paths for name in item.audio)]
    if not any(item.split == "test" for item in present):
        # Nothing would be scored: what the protocol fits on is then scored too, each clip by a fit on the others.
        present = [dataclasses.replace(item, split="test") for item in present]
    items = tuple(present if limit is None else _first(present, limit))
    return Plan(items, paths, recordings, tuple(missing), len(wanted) - len(present))


def _first(items: list[Item], limit: int) -> list[Item]:
    clips: dict[tuple[str, str, str], set[tuple[str, ...]]] = {}
    for item in items:
        clips.setdefault((item.task, item.group, item.split), set()).add(item.audio)
    kept = {key: set(sorted(found, key=_shuffled)[:limit]) for key, found in clips.items()}
    return [item for item in items if item.audio in kept[item.task, item.group, item.split]]


def _shuffled(audio: tuple[str, ...]) -> str:
    """A place in an order that has nothing to do with the files', and is the same in every run."""
    return hashlib.sha256("\n".join(audio).encode()).hexdigest()
