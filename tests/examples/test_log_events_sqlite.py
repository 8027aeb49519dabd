"""The example that logs events: what is in the database, also after a crash and another start."""

from __future__ import annotations

import importlib.util
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
from sdk.fakes import RATE, write_fake

import alm
from alm.engines import ENGINES

SCRIPT = Path(__file__).parents[2] / "examples" / "log_events_sqlite.py"


@pytest.fixture
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("log_events_sqlite", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(ENGINES, "fake", "sdk.fakes")
    return write_fake(tmp_path / "fake.alm")


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """Two sounds in quiet."""
    quiet = np.random.default_rng(0).normal(0, 1e-4, 8 * RATE)
    for start in (3.0, 6.0):
        place = slice(int(start * RATE), int((start + 0.5) * RATE))
        quiet[place] += np.random.default_rng(1).uniform(-0.5, 0.5, len(quiet[place]))
    soundfile.write(tmp_path / "night.wav", quiet, RATE)
    return tmp_path / "night.wav"


def rows(database: Path) -> list[tuple[object, ...]]:
    with sqlite3.connect(database) as log:
        return log.execute("SELECT * FROM events ORDER BY run, start").fetchall()


def test_events_are_logged_and_a_second_start_replaces_them(
    example: ModuleType, package: Path, night: Path, tmp_path: Path
) -> None:
    database = tmp_path / "events.db"
    with alm.load(package) as model, model.watch(night, "what is it?") as events:
        heard = list(events)
    assert len(heard) >= 2
    for _ in range(2):
        assert example.listen(package, database, night, None, "what is it?") == len(heard)
        expected = [
            (str(night), 0.0, event.start, event.end, None, event.text, event.level_db, event.lost) for event in heard
        ]
        assert rows(database) == expected


def test_an_event_is_on_disk_before_the_next_one(
    example: ModuleType, package: Path, night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "events.db"
    record, seen = example.record, []

    def crashing(*arguments: object) -> None:
        if seen:
            raise KeyboardInterrupt
        record(*arguments)
        seen.append(rows(database))

    monkeypatch.setattr(example, "record", crashing)
    with pytest.raises(KeyboardInterrupt):
        example.listen(package, database, night, None, "what is it?")
    assert len(seen[0]) == 1 and rows(database) == seen[0]


def test_microphones_add_a_run_each(example: ModuleType, tmp_path: Path) -> None:
    timing = alm.Timing(0.0, 0.0, 0.0, 0.0)
    event = alm.Event(1.0, 2.0, "a dog", -20.0, 1.7e9, 0.0, timing)
    for run in (1.0, 2.0):
        log = example.open_log(tmp_path / "events.db")
        example.record(log, "USB Audio", run, event)
        log.close()
    assert [row[:3] for row in rows(tmp_path / "events.db")] == [("USB Audio", 1.0, 1.0), ("USB Audio", 2.0, 1.0)]


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    words = [sys.executable, str(SCRIPT), str(tmp_path / "absent.alm"), str(tmp_path / "events.db")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("log_events_sqlite: ") and len(done.stderr.splitlines()) == 1
