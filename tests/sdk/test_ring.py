"""The ring between the audio callback and its reader: exact, counted, and never a torn frame."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alm.listening.ring import Ring, Taken

RATE = 1000


def frames(start: int, count: int, channels: int = 2) -> np.ndarray:
    """Frames that say which they are: channel c of frame i is i + c / 4."""
    return (np.arange(start, start + count)[:, None] + np.arange(channels) / 4).astype(np.float32)


@given(
    capacity=st.integers(1, 40),
    steps=st.lists(st.tuples(st.sampled_from(["write", "take"]), st.integers(1, 60)), max_size=40),
)
def test_every_frame_is_taken_once_in_order_or_counted(capacity: int, steps: list[tuple[str, int]]) -> None:
    ring = Ring(capacity, 2, RATE)
    written = read = 0
    for action, count in steps:
        if action == "write":
            ring.write(frames(written, count))
            written += count
            continue
        taken = ring.take(count, 0.0)
        oldest = max(read, written - capacity)
        if written - oldest < min(count, capacity):
            assert taken is None
            read = oldest
            continue
        assert taken is not None
        assert np.array_equal(taken.frames, frames(oldest, min(count, capacity)))
        read = oldest + len(taken.frames)
    assert ring.written == written


@given(capacity=st.integers(1, 30), counts=st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_lost_frames_are_reported_before_the_next_taken(capacity: int, counts: list[int]) -> None:
    ring = Ring(capacity, 1, RATE)
    seen = lost = 0
    for number, count in enumerate(counts):
        ring.write(frames(ring.written, count, 1))
        if number % 3 == 2 and (taken := ring.take(1, 0.0)) is not None:
            assert taken.frames[0, 0] == seen + lost + taken.lost
            seen, lost = seen + len(taken.frames), lost + taken.lost
    ring.close()
    while (rest := ring.take(7, 0.0)) is not None:
        seen, lost = seen + len(rest.frames), lost + rest.lost
    assert seen + lost == sum(counts)
    assert ring.lost_frames == lost
    assert (ring.overflows > 0) == (lost > 0)


def test_a_take_is_a_copy() -> None:
    ring = Ring(4, 1, RATE)
    ring.write(frames(0, 4, 1))
    taken = ring.take(4, 0.0)
    ring.write(frames(4, 4, 1))
    assert taken is not None and taken.frames[:, 0].tolist() == [0, 1, 2, 3]


def test_the_time_away_is_lost_before_the_next_frames() -> None:
    ring = Ring(1000, 1, RATE)
    ring.write(frames(0, 10, 1))
    ring.interrupt()
    time.sleep(0.05)
    ring.write(frames(10, 10, 1))
    before, after = ring.take(20, 0.0), ring.take(10, 0.0)
    assert before is not None and (len(before.frames), before.lost) == (10, 0)
    assert after is not None and len(after.frames) == 10
    assert after.lost >= 40
    assert ring.overflows == 0 and ring.lost_frames == after.lost
    assert after.captured - before.captured == pytest.approx((10 + after.lost) / RATE, abs=2 / RATE)


def test_a_device_overflow_is_counted() -> None:
    ring = Ring(1000, 1, RATE)
    ring.write(frames(0, 10, 1))
    time.sleep(0.03)
    ring.write(frames(10, 10, 1), overflow=True)
    taken = [ring.take(10, 0.0), ring.take(10, 0.0)]
    assert [piece is not None and piece.lost > 0 for piece in taken] == [False, True]
    assert ring.overflows == 1


def test_a_gap_that_was_overwritten_still_counts() -> None:
    ring = Ring(10, 1, RATE)
    ring.write(frames(0, 5, 1))
    ring.interrupt()
    time.sleep(0.03)
    ring.write(frames(5, 5, 1))
    ring.write(frames(10, 10, 1))
    taken = ring.take(10, 0.0)
    assert taken is not None and taken.frames[0, 0] == 10
    assert taken.lost >= 10 + 20
    assert ring.overflows == 1


def test_no_wait_is_longer_than_asked_and_close_ends_one() -> None:
    ring = Ring(100, 1, RATE)
    assert ring.take(10, 0.01) is None
    result: list[Taken | None] = []
    reader = threading.Thread(target=lambda: result.append(ring.take(10, 60.0)))
    reader.start()
    ring.write(frames(0, 3, 1))
    ring.close()
    reader.join(30.0)
    assert not reader.is_alive()
    assert result[0] is not None and len(result[0].frames) == 3
    assert ring.take(10, 60.0) is None


class Lapped(Ring):
    """A ring whose writer comes round between the reader's look and its copy."""

    def _copied(self, start: int, count: int) -> np.ndarray:
        if self.written == 10:
            self.write(frames(10, 7, 1))
        return super()._copied(start, count)


def test_frames_that_change_under_the_reader_are_lost_and_not_handed_out() -> None:
    ring = Lapped(10, 1, RATE)
    ring.write(frames(0, 10, 1))
    taken = ring.take(10, 0.0)
    assert taken is not None and taken.lost == 7
    assert np.array_equal(taken.frames, frames(7, 10, 1))


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads that change places as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.parametrize("room", [64, 100_000])
def test_a_writer_at_full_speed_never_tears_a_frame(room: int, restless: None) -> None:
    ring = Ring(room, 3, RATE)
    total = 60_000

    def write() -> None:
        position = 0
        while position < total:
            count = min(1 + position % 37, total - position)
            ring.write(frames(position, count, 3))
            position += count
        ring.close()

    writer = threading.Thread(target=write)
    writer.start()
    position = 0
    while (taken := ring.take(29, 60.0)) is not None:
        position += taken.lost
        assert np.array_equal(taken.frames, frames(position, len(taken.frames), 3))
        position += len(taken.frames)
    writer.join()
    assert position == total
    assert (ring.lost_frames == 0) or room == 64
