"""The soak in small: 30 seconds of recordings, and what it calls broken."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import alm
import alm_quantize
from alm.listening.events import Event
from alm_bench.studies import soak

CLIPS = Path(alm_quantize.__file__).parent / "clips"
pytestmark = pytest.mark.usefixtures("one_thread")
app = typer.Typer()
app.command()(soak.main)


def run(package: Path) -> tuple[int, str]:
    words = ["--package", str(package), "--minutes", "0.5", "--speed", "20", "--data", str(CLIPS)]
    result = CliRunner().invoke(app, words)
    return result.exit_code, result.output


def test_half_a_minute(tiny_package: Path) -> None:
    status, output = run(tiny_package)
    assert "0 of" in output
    assert "BROKEN" not in output
    assert status == 0


def test_a_missing_event_is_broken(tiny_package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = soak.watched

    def forgetful(*arguments: object) -> list[Event]:
        return watched(*arguments)[:-1]  # type: ignore[arg-type]

    monkeypatch.setattr(soak, "watched", forgetful)
    status, output = run(tiny_package)
    assert status == 1
    assert "BROKEN: 1 events are missing and 0 are new" in output


def test_growth_threads_and_loss_are_broken(tiny_package: Path) -> None:
    growth, playlist = soak.Growth({0: 90.0, 1: 100.0, 2: 101.0, 3: 103.5}, {7, 8}), soak.Playlist([], 8000, 1, None)
    event = Event(0.0, 1.0, "rain", -20.0, None, 2.5, alm.Timing(0, 0, 0, 0))
    assert soak.report([event], [event], growth, playlist, 1.0, 1.0) == [
        "2.5 s of sound were lost: this machine is too slow for this speed",
        "memory grew by 3.50 MB, expected at most 2",
        "the number of threads changed",
    ]


def test_a_playlist_is_the_same_each_time() -> None:
    files = sorted(CLIPS.glob("*.ogg"))
    first, second = ([*soak.Playlist(files, 16000, 20.0, pace).blocks()] for pace in (None, 100.0))
    assert len(first) == 200
    assert all((a.samples == b.samples).all() for a, b in zip(first, second, strict=True))
