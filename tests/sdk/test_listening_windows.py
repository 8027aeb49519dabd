"""From blocks to windows: the same ones for any blocks, nothing left out, in memory that does not grow."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from fakes import FRONTEND, RATE, SAMPLES
from hypothesis import given
from hypothesis import strategies as st

from alm.listening.blocks import Block
from alm.listening.gate import GateSettings
from alm.listening.windows import GAP_SECONDS, History, SoundWindow, Windower, level_db

SECONDS = SAMPLES / RATE
TAIL = 0.5
"""Seconds that the gate's slow detectors may see a loud sound longer than it lasts."""
GATE = GateSettings(hang_over_seconds=0.2, pre_roll_seconds=0.1, memory_seconds=4.0)


def sounds(*spans: tuple[float, float], seconds: float = 6.0, rate: int = RATE) -> np.ndarray:
    """Quiet noise with tones in the given spans."""
    made = 0.001 * np.random.default_rng(5).standard_normal(round(seconds * rate))
    for number, (start, end) in enumerate(spans):
        time = np.arange(round(start * rate), round(end * rate)) / rate
        made[round(start * rate) : round(end * rate)] += 0.3 * np.sin(2 * np.pi * (700 + 400 * number) * time)
    return made.astype(np.float32)


def cut(samples: np.ndarray, sizes: list[int], gate: GateSettings | None, rate: int = RATE) -> list[SoundWindow]:
    """The windows of a sound that comes in blocks of these sizes, the last size over and over."""
    windower = Windower(FRONTEND, rate, gate)
    found, at, left = [], 0, list(sizes)
    while at < len(samples):
        size = left.pop(0) if len(left) > 1 else left[0]
        found += windower.push(Block(samples[at : at + size], 0, math.nan))
        at += size
    return [*found, *windower.finish()]


def facts(windows: list[SoundWindow]) -> list[tuple[object, ...]]:
    return [(w.start, w.end, w.activity, w.last, w.level_db, w.samples.tobytes()) for w in windows]


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=20), st.sampled_from([None, GATE]))
def test_windows_do_not_depend_on_the_blocks(sizes: list[int], gate: GateSettings | None) -> None:
    samples = sounds((1.5, 2.2), (3.0, 3.05), (5.5, 6.0))
    assert facts(cut(samples, [*sizes, 997], gate)) == facts(cut(samples, [len(samples)], gate))


@pytest.mark.parametrize("size", [1, 7])
def test_blocks_of_single_samples(size: int) -> None:
    samples = sounds((1.2, 1.5), seconds=2.0)
    assert facts(cut(samples, [size], GATE)) == facts(cut(samples, [len(samples)], GATE))


def test_the_gate_says_where_windows_start_and_end() -> None:
    windows = cut(sounds((1.5, 1.9), (3.5, 3.55)), [800], GATE)
    activities = [[w for w in windows if w.activity == number] for number in (0, 1)]
    assert sum(map(len, activities)) == len(windows)
    for (start, end), found in zip([(1.5, 1.9), (3.5, 3.55)], activities, strict=True):
        assert found[0].start == pytest.approx(start - GATE.pre_roll_seconds, abs=0.06)
        assert end - 0.06 < found[-1].end < end + TAIL
        assert [w.last for w in found] == [False] * (len(found) - 1) + [True]
        # 0.3 of amplitude is -13.5 dB, half as much power where the sound fills half of a tenth of a second.
        assert max(w.level_db for w in found) == pytest.approx(-13.5, abs=3.5)


@given(st.integers(1, 12 * SAMPLES), st.integers(0, 3))
def test_nothing_is_cut_and_neighbours_overlap(length: int, seed: int) -> None:
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, length).astype(np.float32)
    windows = cut(samples, [333], None)
    assert (windows[0].start, windows[-1].end) == (0, length / RATE)
    assert all(w.samples.shape == (SAMPLES,) for w in windows)
    assert [w.last for w in windows] == [False] * (len(windows) - 1) + [True]
    for before, after in pairwise(windows):
        assert before.start < after.start <= before.end - 0.2 * SECONDS + 1e-9
    for window in windows:
        heard = samples[round(window.start * RATE) : round(window.end * RATE)]
        np.testing.assert_array_equal(window.samples[: len(heard)], heard)
        assert len(windows) == 1 or len(heard) == SAMPLES


def test_a_short_sound_is_repeated_as_a_short_recording_is() -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 300).astype(np.float32)
    (window,) = cut(samples, [300], None)
    np.testing.assert_array_equal(window.samples, np.tile(samples, 3)[:SAMPLES])


def test_windows_of_a_long_sound_come_while_it_lasts() -> None:
    samples = sounds((1.5, 3.5))
    windower, position, delays = Windower(FRONTEND, RATE, GATE), 0, []
    for at in range(0, len(samples), 80):
        position += 80
        delays += [position / RATE - w.end for w in windower.push(Block(samples[at : at + 80], 0, math.nan))]
    assert len(delays) > 20
    assert max(delays) < GATE.hang_over_seconds + 0.35


def test_other_rates_give_the_same_windows_but_for_the_resampler() -> None:
    spans = [(1.5, 1.9), (4.0, 4.3)]
    ours, theirs = cut(sounds(*spans), [500], GATE), cut(sounds(*spans, rate=11025), [500], GATE, rate=11025)
    assert len(ours) == len(theirs)
    for one, two in zip(ours, theirs, strict=True):
        assert one.start == pytest.approx(two.start, abs=0.1)
        assert one.level_db == pytest.approx(two.level_db, abs=0.5) or one.level_db < -50


@pytest.mark.parametrize("seconds", [0.5, 30.0])
def test_lost_sound_moves_the_clock_and_is_told_once(seconds: float) -> None:
    windower = Windower(FRONTEND, RATE, GATE)
    samples, lost = sounds((2.0, 2.4), seconds=4.0), round(seconds * RATE)
    first = [*windower.push(Block(samples, 0, 1000.0))]
    second = [*windower.push(Block(samples, lost, 1004.0 + seconds)), *windower.finish()]
    assert [w.lost for w in (*first, *second)] == [0] * len(first) + [seconds] + [0] * (len(second) - 1)
    assert 4.0 + seconds + 2.4 - 0.06 < second[-1].end < 4.0 + seconds + 2.4 + TAIL
    for window in (*first, *second):
        assert window.time == pytest.approx(1000.0 + window.start)


def test_a_long_loss_ends_the_sound_before_it() -> None:
    windower = Windower(FRONTEND, RATE, None)
    tone = sounds((0.0, 1.0), seconds=1.0)
    before = [*windower.push(Block(tone, 0, math.nan))]
    (last,) = [w for w in windower.push(Block(tone, round(2 * GAP_SECONDS * RATE), math.nan)) if w.last]
    assert before
    assert (last.end, last.activity) == (1.0, 0)
    after = [*windower.finish()]
    assert {w.activity for w in after} == {1}
    assert after[-1].end == 1.0 + 2 * GAP_SECONDS + 1.0


def test_no_sound_no_windows() -> None:
    for gate in (None, GATE):
        assert [*Windower(FRONTEND, RATE, gate).finish()] == []


def test_the_history_keeps_what_it_says_in_memory_that_does_not_grow() -> None:
    history, samples = History(1000), np.arange(20_000, dtype=np.float32)
    size = history._buffer.nbytes
    for start in range(0, 20_000, 130):
        history.append(samples[start : start + 130])
        first = max(0, history.end - 1000)
        np.testing.assert_array_equal(history.take(first, history.end), samples[first : history.end])
    assert history._buffer.nbytes == size


def test_the_level_is_that_of_the_loudest_stretch() -> None:
    samples = np.zeros(1000, np.float32)
    assert level_db(samples, 100) == -120
    samples[300:400] = 0.1
    samples[-3:] = 1.0  # the last stretch is whole
    assert level_db(samples, 100) == pytest.approx(10 * math.log10(0.03))
    assert level_db(samples[:-1], 100) == pytest.approx(-20)
    assert level_db(np.full(7, 0.5, np.float32), 100) == pytest.approx(-6.02, abs=0.01)
