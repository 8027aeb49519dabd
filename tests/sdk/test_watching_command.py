"""`alm watch`: sources, lines, JSON lines, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from fakes import RATE, FakeDecoder, ids_of
from test_listening_windows import sounds
from test_watch import Feed

import alm
from alm.commands import watching

if TYPE_CHECKING:
    from sdk.conftest import Run

SPANS = [(1.5, 1.9), (4.0, 4.5)]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "day.wav"
    soundfile.write(path, sounds(*SPANS, seconds=7.0), RATE, subtype="FLOAT")
    return path


@pytest.fixture(autouse=True)
def bell(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model says the same of every sound."""
    made = FakeDecoder.__init__

    def scripted(self: FakeDecoder, *arguments: object) -> None:
        made(self, *arguments)  # type: ignore[arg-type]
        self.script = ids_of("a bell.")

    monkeypatch.setattr(FakeDecoder, "__init__", scripted)


def test_a_line_per_event(run: Run, package: Path, recording: Path) -> None:
    result = run("watch", package, recording)
    assert (result.status, result.err) == (0, "")
    first, second = result.out.splitlines()
    assert first.startswith("0:00:01.0 - 0:00:0")
    assert second.startswith("0:00:03.5 - 0:00:0")
    assert first.endswith(" dB  a bell.")
    assert run("watch", package, "--file", recording).out == result.out


def test_lines_for_a_pipe_stay_on_standard_output(
    run: Run, package: Path, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run("watch", package, recording).out
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert run("watch", package, recording).out == plain
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    both = run("watch", package, recording)
    assert "listening" in both.err
    assert all(line in both.out + both.err for line in plain.splitlines())


def test_json_lines(run: Run, package: Path, recording: Path) -> None:
    result = run("watch", package, recording, "--json", "--question", "what is it?", "--max-tokens", 3)
    found = [json.loads(line) for line in result.out.splitlines()]
    with alm.load(package) as model, model.watch(recording, "what is it?", max_tokens=3) as events:
        expected = [*events]
    assert [(each["start"], each["end"], each["text"]) for each in found] == [
        (e.start, e.end, e.text) for e in expected
    ]
    assert set(found[0]) == {"start", "end", "text", "level_db", "time", "lost", "timing"}
    assert (found[0]["time"], found[0]["text"]) == (None, "a b")


def test_the_gate_can_be_set_and_left_out(run: Run, package: Path, recording: Path) -> None:
    assert run("watch", package, recording, "--threshold", 100).out == ""
    (line,) = run("watch", package, recording, "--no-gate").out.splitlines()
    assert line.startswith("0:00:00.0 - 0:00:07.0")
    wrong = run("watch", package, recording, "--threshold", 1000)
    assert (wrong.status, wrong.out) == (1, "")
    assert "GateSettings.threshold: found 1000.0" in wrong.err


@pytest.mark.parametrize("format", ["s16le", "f32le"])
def test_raw_pcm_on_standard_input(
    run: Run, package: Path, monkeypatch: pytest.MonkeyPatch, format: str, tmp_path: Path
) -> None:
    stereo = np.repeat(sounds(*SPANS, seconds=7.0)[:, np.newaxis], 2, axis=1)
    data = stereo.astype("<f4") if format == "f32le" else (stereo * 32767).astype("<i2")
    path = tmp_path / "pcm"
    path.write_bytes(data.tobytes() + b"!")
    with path.open("rb") as file:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=file))
        result = run("watch", package, "-", "--rate", RATE, "--channels", 2, "--format", format)
    assert result.status == 0
    assert [line.split()[0] for line in result.out.splitlines()] == ["0:00:01.0", "0:00:03.5"]
    assert "ended within a frame, whose bytes (1) were dropped" in result.err


def test_live_sound_has_the_time_of_day(run: Run, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Feed(live=False)
    feed.give(sounds((1.5, 1.9), seconds=4.0), lost=RATE * 3, at=1_700_000_003.0)
    feed.items.end()
    monkeypatch.setattr(watching, "_source", lambda *_: feed)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    (line,) = run("watch", package, "--mic").out.splitlines()
    assert line.startswith("2023-11-14 22:13:24 - 22:13:2")
    assert line.endswith("a bell.  (3.0 s before it were lost)")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ([], 2, "found none"),
        (["a.wav", "--mic"], 2, "found SOURCE and --mic"),
        (["--file", "a.wav", "--device", "USB"], 2, "found --file and --mic"),
        (["none.wav"], 1, "none.wav cannot be opened"),
        (["-", "--format", "mp3"], 1, "found the sample format 'mp3', expected one of u8"),
        (["none.wav", "--question", " "], 1, "is empty to the model"),
        (["none.wav", "--question", ""], 1, "is empty to the model"),
        (["none.wav", "--rate", "8000"], 2, "--rate: it is for raw PCM on standard input"),
        (["--file", "none.wav", "--format", "mp3"], 2, "--format: it is for raw PCM on standard input"),
        (["--mic", "--channels", "2"], 2, "--channels: it is for raw PCM on standard input"),
    ],
)
def test_failures_are_one_line(run: Run, package: Path, arguments: list[str], status: int, says: str) -> None:
    result = run("watch", package, *arguments)
    assert (result.status, result.out) == (status, "")
    assert says in " ".join(result.err.replace("│", " ").split())
    assert status == 2 or len(result.err.splitlines()) == 1


def test_ctrl_c_ends_it_cleanly(package: Path, tmp_path: Path) -> None:
    """A pipe that stays open, as a recorder's does; the events before are already out."""
    program = (
        "import sys; sys.path[:0] = sys.argv.pop(1).split(':')\n"
        "from alm.engines import ENGINES; ENGINES['fake'] = 'fakes'\n"
        "from alm.commands import main; main()"
    )
    words = [sys.executable, "-c", program, str(Path(__file__).parent), "watch", str(package), "-", "--rate", str(RATE)]
    data = (sounds(*SPANS, seconds=7.0) * 32767).astype("<i2").tobytes()
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(data)
        process.stdin.flush()
        lines = [process.stdout.readline() for _ in SPANS]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert all(b" dB " in line for line in lines)
        assert process.stderr.read() == b""
