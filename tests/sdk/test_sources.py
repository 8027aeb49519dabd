"""Recordings, arrays and pipes as live sources."""

from __future__ import annotations

import io
import itertools
import math
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from alm.errors import AudioError
from alm.listening import sources
from alm.listening.blocks import Block, LiveSource
from alm.listening.pcm import FORMATS, PcmPipe
from alm.listening.sources import RecordingSource, open_source

RATE = 8000


def noise(seconds: float, channels: int = 1) -> np.ndarray:
    """16 bit noise as floats (n, channels)."""
    codes = np.random.default_rng(7).integers(-30000, 30000, (int(seconds * RATE), channels))
    return (codes / 32768).astype(np.float32)


def joined(blocks: Iterator[Block]) -> np.ndarray:
    return np.concatenate([block.samples for block in blocks])


class Clock:
    """A monotonic clock that only sleeping moves, and a reader who takes his time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(sources.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(sources.threading, "Event", lambda: self)
        self.closed = False

    def wait(self, seconds: float) -> bool:
        self.now += max(0.0, seconds)
        return self.closed

    def is_set(self) -> bool:
        return self.closed

    def set(self) -> None:
        self.closed = True


# Recordings


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "file", "array"])
def test_any_recording_comes_whole_in_short_blocks(kind: str, tmp_path: Path) -> None:
    sound = noise(9.0, 2)
    path = tmp_path / "a.wav"
    soundfile.write(path, sound, RATE, subtype="PCM_16")
    given = {
        "path": path,
        "text": str(path),
        "bytes": path.read_bytes(),
        "file": io.BytesIO(path.read_bytes()),
        "array": (sound, RATE),
    }
    source = open_source(given[kind])
    assert source.sample_rate == RATE and not source.live
    blocks = list(source.blocks())
    assert {len(block.samples) for block in blocks} <= set(range(1, RATE // 10 + 1))
    assert all(block.lost == 0 and math.isnan(block.time) and block.samples.dtype == np.float32 for block in blocks)
    assert np.allclose(joined(iter(blocks)), sound.mean(axis=1), atol=1e-6)


def test_a_live_source_stays_itself_and_is_not_opened() -> None:
    class Untouched:
        live = True

        @property
        def sample_rate(self) -> int:
            raise AssertionError("opened")

        def blocks(self) -> Iterator[Block]:
            return iter(())

        def close(self) -> None: ...

    source: LiveSource = Untouched()
    assert open_source(source) is source


def test_what_is_no_recording_is_refused_when_read(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="cannot be opened"):
        next(open_source(tmp_path / "absent.wav").blocks())
    with pytest.raises(AudioError, match="expected a path"):
        _ = open_source(3).sample_rate  # type: ignore[arg-type]
    with pytest.raises(AudioError, match="NaN"):
        joined(open_source((np.full(100, np.nan), RATE)).blocks())


def test_blocks_are_taken_once() -> None:
    source = RecordingSource((noise(1.0), RATE))
    list(source.blocks())
    with pytest.raises(AudioError, match="taken already"):
        next(source.blocks())


def test_a_closed_source_says_so() -> None:
    source = RecordingSource((noise(1.0), RATE))
    source.close()
    source.close()
    with pytest.raises(AudioError, match="closed before"):
        _ = source.sample_rate
    assert list(source.blocks()) == []


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, "fast"])
def test_the_pace_is_a_positive_number(value: object) -> None:
    with pytest.raises(AudioError, match="expected a number above 0"):
        RecordingSource((noise(1.0), RATE), paced=value)  # type: ignore[arg-type]


def test_no_file_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(20.0), RATE)
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    with RecordingSource(path) as source:
        next(iter(source.blocks()))
    opened = RecordingSource(path)
    assert opened.sample_rate == RATE
    opened.close()
    list(RecordingSource(path).blocks())
    assert len(os.listdir("/proc/self/fd")) == len(before)  # noqa: PTH208


# Pace


@given(speed=st.sampled_from([0.5, 1.0, 20.0]), seconds=st.integers(1, 20))
def test_a_paced_recording_takes_its_time_and_loses_nothing(speed: float, seconds: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(patch)
        source = RecordingSource((noise(seconds), RATE), paced=speed)
        assert source.live
        assert np.array_equal(joined(source.blocks()), noise(seconds)[:, 0])
        assert clock.now - 1000.0 == pytest.approx(seconds / speed)
        assert (source.overflows, source.lost_frames) == (0, 0)


def test_a_late_reader_loses_the_oldest_sound_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    sound = noise(20.0)[:, 0]
    source = RecordingSource((sound, RATE), paced=1.0, buffer_seconds=2.0)
    blocks = source.blocks()
    first = next(blocks)
    clock.now += 7.0
    after = next(blocks)
    resumed = len(first.samples) + after.lost
    assert first.lost == 0
    # At 7.1 s the buffer holds what came after 5.1 s; blocks leave it whole.
    assert resumed / RATE == pytest.approx(5.1, abs=0.11)
    assert np.array_equal(after.samples, sound[resumed : resumed + len(after.samples)])
    rest = joined(blocks)
    assert np.array_equal(rest, sound[resumed + len(after.samples) :])
    assert (source.overflows, source.lost_frames) == (1, after.lost)


def test_the_end_of_a_recording_waits_in_the_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    sound = noise(10.0)[:, 0]
    blocks = RecordingSource((sound, RATE), paced=1.0, buffer_seconds=2.0).blocks()
    next(blocks)
    clock.now += 3600.0
    assert np.array_equal(joined(blocks), sound[-2 * RATE :])


def test_setting_the_wall_clock_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = itertools.cycle([0.0, 1e9, -1e9])
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    sound = noise(0.5)[:, 0]
    source = RecordingSource((sound, RATE), paced=5.0)
    assert np.array_equal(joined(source.blocks()), sound)
    assert source.lost_frames == 0


def test_close_ends_a_paced_wait() -> None:
    source = RecordingSource((noise(60.0), RATE), paced=0.01)
    reader = threading.Thread(target=lambda: list(source.blocks()))
    reader.start()
    source.close()
    reader.join(30.0)
    assert not reader.is_alive()


# Pipes


def encoded(sound: np.ndarray, name: str) -> bytes:
    """Samples as the bytes that a recorder writes."""
    if name == "f32le":
        return sound.astype("<f4").tobytes()
    codes = (sound * 32768).astype(np.int64)
    if name == "u8":
        return (codes // 256 + 128).astype(np.uint8).tobytes()
    wide = (codes << {"s16le": 0, "s24le": 8, "s32le": 16}[name]).astype("<i8")
    return wide.reshape(-1, 1).view(np.uint8)[:, : FORMATS[name].size].tobytes()


class Fed:
    """A pipe with a thread that writes pieces into it and hangs up."""

    def __init__(self, *pieces: bytes) -> None:
        self.reading, writing = os.pipe()
        self.thread = threading.Thread(target=self._feed, args=(writing, pieces))

    def _feed(self, writing: int, pieces: tuple[bytes, ...]) -> None:
        for piece in pieces:
            os.write(writing, piece)
        os.close(writing)

    def __enter__(self) -> int:
        self.thread.start()
        return self.reading

    def __exit__(self, *_: object) -> None:
        os.close(self.reading)
        self.thread.join()


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_exact(name: str, channels: int) -> None:
    sound = noise(0.35, channels)
    if name == "u8":
        sound = np.floor(sound * 128) / np.float32(128)
    with Fed(encoded(sound, name)) as reading:
        pipe = PcmPipe(reading, RATE, channels, name)
        blocks = list(pipe.blocks())
    assert [len(block.samples) for block in blocks] == [800, 800, 800, 400]
    assert np.allclose(joined(iter(blocks)), sound.mean(axis=1), atol=1e-7)
    assert (pipe.sample_rate, pipe.live, pipe.cut_bytes) == (RATE, False, 0)


@given(cuts=st.lists(st.integers(0, 6000), max_size=12), extra=st.integers(0, 5))
def test_pieces_of_any_size_give_the_same_sound(cuts: list[int], extra: int) -> None:
    sound = noise(0.125, 3)
    data = encoded(sound, "s16le") + bytes(extra)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    with Fed(*[data[a:b] for a, b in itertools.pairwise(places)]) as reading:
        pipe = PcmPipe(reading, RATE, 3)
        heard = joined(pipe.blocks())
    assert np.allclose(heard, sound.mean(axis=1), atol=1e-7)
    assert pipe.cut_bytes == extra


def test_a_writer_that_stops_inside_a_frame_leaves_the_sound_before_it() -> None:
    sound = noise(0.125, 2)
    with Fed(encoded(sound, "s24le")[:-1]) as reading:
        pipe = PcmPipe(reading, RATE, 2, "s24le")
        heard = joined(pipe.blocks())
    assert np.allclose(heard, sound[:-1].mean(axis=1), atol=1e-7)
    assert pipe.cut_bytes == 5


@pytest.mark.parametrize("data", [b"", b"\1", b"\1\2\3"])
def test_a_pipe_without_a_frame_is_an_error(data: bytes) -> None:
    with Fed(data) as reading, pytest.raises(AudioError, match=f"ended after {len(data)} bytes, a frame has 4"):
        list(PcmPipe(reading, RATE, 2).blocks())


@pytest.mark.parametrize(("value", "said"), [(np.nan, "NaN"), (-np.inf, "NaN or inf"), (3e4, "full scale")])
def test_floats_that_are_no_sound_are_refused(value: float, said: str) -> None:
    sound = noise(0.01)
    sound[40] = value
    with Fed(encoded(sound, "f32le")) as reading, pytest.raises(AudioError, match=said):
        list(PcmPipe(reading, RATE, 1, "f32le").blocks())


def test_blocks_of_a_pipe_tell_when_they_came() -> None:
    before = time.time()
    with Fed(encoded(noise(0.2), "s16le")) as reading:
        times = [block.time for block in PcmPipe(reading, RATE).blocks()]
    assert before - 1 <= times[0] <= times[1] <= time.time() + 1


def test_a_file_is_read_like_a_pipe_and_has_no_time(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(encoded(noise(0.2), "s16le"))
    with path.open("rb") as file, PcmPipe(file, RATE) as pipe:
        blocks = list(pipe.blocks())
        assert not file.closed
    assert all(math.isnan(block.time) for block in blocks)
    assert np.array_equal(joined(iter(blocks)), noise(0.2)[:, 0])


def test_close_ends_a_blocked_read() -> None:
    reading, writing = os.pipe()
    pipe = PcmPipe(reading, RATE)
    ended: list[list[Block]] = []
    reader = threading.Thread(target=lambda: ended.append(list(pipe.blocks())))
    reader.start()
    os.write(writing, b"\0\0")
    pipe.close()
    reader.join(30.0)
    assert not reader.is_alive() and ended == [[]]
    os.close(writing)
    os.close(reading)


def test_a_pipe_is_read_once() -> None:
    with Fed(bytes(64)) as reading:
        pipe = PcmPipe(reading, RATE)
        list(pipe.blocks())
        with pytest.raises(AudioError, match="read already"):
            next(pipe.blocks())


def test_what_is_no_pipe_is_refused() -> None:
    with pytest.raises(AudioError, match=r"BytesIO as a pipe.*pair \(samples"):
        PcmPipe(io.BytesIO(b"1234"), RATE)
    with pytest.raises(AudioError, match="expected an open descriptor"):
        PcmPipe(10**6, RATE)
    controller, terminal = os.openpty()
    with pytest.raises(AudioError, match="a terminal as a pipe"):
        PcmPipe(terminal, RATE)
    os.close(controller)
    os.close(terminal)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"format": "s16be"}, "expected one of u8, s16le, s24le, s32le, f32le"),
        ({"sample_rate": 10}, "sample rate of 10 Hz"),
        ({"channels": 0}, "0 channels"),
        ({"channels": 65}, "65 channels"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object], said: str) -> None:
    with Path(os.devnull).open("rb") as file, pytest.raises(AudioError, match=said):
        PcmPipe(file, **{"sample_rate": RATE, **settings})  # type: ignore[arg-type]
