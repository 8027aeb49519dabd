"""The gate for any sound: what opens it, what becomes the floor, and that splits do not matter."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_manifest

from alm.audio.log_mel import LogMel, LogMelStream
from alm.errors import AlmError, AudioError
from alm.listening.gate import LIMITS, Activity, ActivityGate, GateSettings

FRONTEND = tiny_manifest().frontend
LOG_MEL = LogMel(FRONTEND)
RATE, FRAME_RATE = FRONTEND.sample_rate, FRONTEND.sample_rate // FRONTEND.hop
NEAR = 0.6
"""Seconds: the slow detectors look back half a second, so an end may be told that late, a start half of it."""


def hiss(seconds: float, level: float = 0.003, seed: int = 0) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(int(seconds * RATE))).astype(np.float32)


def tone(seconds: float, hz: float = 1500.0, level: float = 0.02) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def at(seconds: float, sound: np.ndarray, background: np.ndarray) -> np.ndarray:
    """`background` with `sound` added from `seconds` on."""
    mixed, start = background.copy(), int(seconds * RATE)
    mixed[start : start + len(sound)] += sound
    return mixed


def changes(frames: np.ndarray, settings: GateSettings | None = None, sizes: list[int] | None = None) -> list[Activity]:
    gate, found, start, turn = ActivityGate(settings or GateSettings(), FRAME_RATE), [], 0, 0
    while start < len(frames):
        size = len(frames) if sizes is None else sizes[turn % len(sizes)]
        found += gate.push(frames[start : start + size])
        start, turn = start + size, turn + 1
    return found + gate.finish()


def spans(samples: np.ndarray, settings: GateSettings | None = None) -> list[tuple[float, float]]:
    """Start and end in seconds, without pre-roll unless `settings` says so."""
    settings = settings or GateSettings(pre_roll_seconds=0.0)
    found = changes(LOG_MEL(samples), settings)
    return [(a.start / FRAME_RATE, a.end / FRAME_RATE) for a in found if a.end is not None]


def assert_span(found: list[tuple[float, float]], start: float, end: float) -> None:
    assert len(found) == 1, found
    assert start - 0.1 <= found[0][0] <= start + 0.3
    assert end - 0.1 <= found[0][1] <= end + NEAR


def test_noise_that_stays_never_opens_it() -> None:
    assert spans(hiss(30)) == []


@pytest.mark.parametrize("hz", [120.0, 1500.0, 9000.0])
def test_a_tone_in_noise_is_one_activity(hz: float) -> None:
    assert_span(spans(at(12, tone(1.5, hz), hiss(20))), 12, 13.5)


def test_long_sounds_close_together_do_not_hide_each_other() -> None:
    samples, starts = hiss(60), range(12, 54, 6)
    for start in starts:
        samples = at(start, hiss(3, level=0.1, seed=start), samples)
    found = spans(samples)
    assert [min(abs(start - begin) for begin, _ in found) < 0.3 for start in starts] == [True] * len(starts)


def test_a_click_opens_it() -> None:
    click = 0.5 * np.random.default_rng(1).standard_normal(RATE // 200).astype(np.float32)
    assert_span(spans(at(12, click, hiss(16))), 12, 12)


def test_a_sound_no_louder_than_the_background_opens_it_when_its_spectrum_is_new() -> None:
    sound = tone(2, 3000, 0.0028)  # 3 dB below the noise it is in
    samples = at(12, sound, hiss(20))
    assert np.mean(sound**2) < np.mean(hiss(20) ** 2)
    found = spans(samples)
    assert len(found) == 1 and 11.9 <= found[0][0] <= 12.6 and 13.5 <= found[0][1] <= 14 + NEAR


def test_the_floor_follows_each_band_and_not_the_whole() -> None:
    rumble = tone(20, 100, 0.3)
    opening, *found = spans(at(12, tone(1, 4000, 0.02), rumble + hiss(20)))
    assert opening[1] < 6
    assert_span(found, 12, 13)


def test_a_level_that_stays_opens_it_once_and_becomes_the_floor() -> None:
    fan = np.concatenate([np.zeros(15 * RATE, np.float32), hiss(45, 0.05, seed=2)])
    found = spans(hiss(60) + fan)
    assert len(found) == 1
    start, end = found[0]
    assert abs(start - 15) < 0.1
    assert 15 + 4 < end < 15 + 9  # six tenths of ten seconds
    # What is heard over the fan still opens it, and what the fan hides does not.
    assert_span(spans(at(45, tone(1, 1500, 0.3), hiss(60) + fan))[1:], 45, 46)
    assert len(spans(at(45, tone(1, 1500, 0.005), hiss(60) + fan))) == 1


def test_it_hears_again_after_the_level_went_down() -> None:
    samples = np.concatenate([hiss(20, 0.1), hiss(20, 0.003, seed=3)])
    assert all(end < 6 for _, end in spans(samples))
    assert_span(spans(at(35, tone(1, 1500, 0.02), samples))[-1:], 35, 36)


def test_pauses_within_the_hang_over_do_not_end_it() -> None:
    def knocks(pause: float) -> np.ndarray:
        samples = hiss(24)
        for number in range(4):
            samples = at(12 + number * (0.1 + pause), tone(0.1, level=0.1), samples)
        return samples

    patient = GateSettings(pre_roll_seconds=0.0, hang_over_seconds=2.0)
    assert [len(spans(knocks(1.8), patient)), len(spans(knocks(1.8)))] == [1, 4]


def test_pre_roll_comes_before_the_first_sign_and_never_reaches_into_the_activity_before() -> None:
    samples = at(16, tone(0.5), at(12, tone(0.5), hiss(20)))
    plain, early = spans(samples), spans(samples, GateSettings(pre_roll_seconds=1.0))
    assert [start for start, _ in early] == pytest.approx([start - 1 for start, _ in plain])
    (_, first_end), (second_start, _) = spans(samples, GateSettings(pre_roll_seconds=30.0))
    assert second_start == first_end


def test_shorter_than_the_minimum_is_no_activity() -> None:
    samples = at(12, tone(0.1, level=0.2), hiss(16))
    assert len(spans(samples)) == 1
    assert spans(samples, GateSettings(min_seconds=2.0)) == []


def test_a_higher_threshold_hears_less() -> None:
    samples = at(12, tone(1, level=0.005), hiss(16))
    assert len(spans(samples)) == 1
    assert spans(samples, GateSettings(threshold=3.0)) == []


def test_a_change_is_told_when_it_opens_and_when_it_has_closed() -> None:
    gate, frames = ActivityGate(GateSettings(), FRAME_RATE), LOG_MEL(at(12, tone(1), hiss(20)))
    opened, closed = None, None
    for number in range(len(frames)):
        assert gate.is_open == (opened is not None and closed is None)
        for change in gate.push(frames[number : number + 1]):
            if change.end is None:
                opened = change
                assert change.opened == number + 1
            else:
                closed = change
    assert opened is not None and closed is not None and closed.end is not None
    assert (opened.start, opened.opened) == (closed.start, closed.opened)
    assert closed.level_db >= opened.level_db > 10
    assert gate.finish() == []


def test_the_end_of_the_sound_ends_an_activity() -> None:
    samples = at(12, tone(1), hiss(13.03))
    found = changes(LOG_MEL(samples))
    assert found[-1].end == len(LOG_MEL(samples))


def test_a_sound_in_the_first_second_is_found_once_that_second_is_there() -> None:
    frames = LOG_MEL(at(0.4, tone(0.2, level=0.1), hiss(3)))
    gate = ActivityGate(GateSettings(), FRAME_RATE)
    assert gate.push(frames[: FRAME_RATE - 1]) == []
    assert gate.push(frames[FRAME_RATE - 1 : FRAME_RATE])[0].end is None


def test_a_sound_shorter_than_a_second_is_judged_at_its_end() -> None:
    assert len(spans(at(0.5, tone(0.1, level=0.1), hiss(0.9)))) == 1
    assert spans(hiss(0.9)) == []


@pytest.mark.parametrize("threshold", [1.0, 2.0])
def test_a_stream_that_begins_loud_is_heard_for_its_first_five_seconds(threshold: float) -> None:
    settings = GateSettings(pre_roll_seconds=0.0, threshold=threshold)
    loud = hiss(30, 0.05)
    assert spans(loud, GateSettings(threshold=10.0)) == []
    ((start, end),) = spans(loud, settings)
    assert start < 0.1 and 4.9 < end < 5.2
    # A recording shorter than that is one activity, and pauses are pauses from the first second on.
    assert [round(end, 1) for _, end in spans(loud[: 3 * RATE], settings)] == [3.0]
    loud[2 * RATE : 4 * RATE] *= 0.01
    assert len(spans(loud, settings)) == 2
    assert spans(hiss(30, 0.003), settings) == []


def test_nothing_pushed_nothing_found() -> None:
    assert ActivityGate(GateSettings(), FRAME_RATE).finish() == []
    assert changes(np.empty((0, FRONTEND.mels), np.float32)) == []


def test_digital_silence_and_what_is_as_quiet_stay_closed() -> None:
    silence = np.zeros(20 * RATE, np.float32)
    assert spans(silence) == []
    dither = hiss(5, 2e-5)  # 16-bit dither switched on: 10 dB above the floor of the log-mel
    assert spans(at(12, dither, silence)) == []
    assert_span(spans(at(12, tone(1, level=1e-3), silence)), 12, 13)


@pytest.mark.parametrize("offset", [0.2, -0.7])
def test_an_offset_is_no_sound(offset: float) -> None:
    assert spans(hiss(20) + np.float32(offset)) == []
    assert_span(spans(at(12, tone(1), hiss(20)) + np.float32(offset)), 12, 13)


def test_clipped_sound_is_sound() -> None:
    assert_span(spans(at(12, tone(1, level=20), hiss(20)).clip(-1, 1)), 12, 13)


ONSETS = LOG_MEL(at(14, tone(0.3, 5000), at(11, tone(1), at(0.5, tone(0.2), hiss(18)))))


@given(st.lists(st.integers(1, 700), min_size=1, max_size=6))
def test_splits_do_not_matter(sizes: list[int]) -> None:
    whole, split = changes(ONSETS), changes(ONSETS, sizes=sizes)
    assert [dataclasses.replace(a, level_db=0) for a in split] == [dataclasses.replace(a, level_db=0) for a in whole]
    assert [a.level_db for a in split] == pytest.approx([a.level_db for a in whole], abs=1e-3)


def test_blocks_of_sound_give_the_spans_of_the_whole() -> None:
    samples = at(12, tone(1), hiss(18))
    stream, gate, found = LogMelStream(LOG_MEL), ActivityGate(GateSettings(), FRAME_RATE), []
    for start in range(0, len(samples), 3200):
        found += gate.push(stream.push(samples[start : start + 3200]))
    found += gate.push(stream.finish()) + gate.finish()
    whole = changes(LOG_MEL(samples))
    assert [(a.start, a.end) for a in found] == [(a.start, a.end) for a in whole]


def test_few_bands_and_another_frame_rate() -> None:
    frames = np.full((600, 3), -60, np.float32) + np.random.default_rng(0).standard_normal((600, 3)).astype(np.float32)
    frames[300:330] += 40
    gate = ActivityGate(GateSettings(pre_roll_seconds=0), 25)
    found = [a for a in gate.push(frames) + gate.finish() if a.end is not None]
    assert len(found) == 1 and 298 <= found[0].start <= 300


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_frames_that_are_not_finite_are_refused(bad: float) -> None:
    frames = np.full((10, 64), -50, np.float32)
    frames[3, 5] = bad
    with pytest.raises(AudioError, match="NaN or infinite"):
        ActivityGate(GateSettings(), FRAME_RATE).push(frames)


def test_frames_of_another_width_are_refused() -> None:
    gate = ActivityGate(GateSettings(), FRAME_RATE)
    gate.push(np.full((3, 64), -50, np.float32))
    with pytest.raises(AudioError, match=r"\(3, 32\), expected \(frames, 64\)"):
        gate.push(np.full((3, 32), -50, np.float32))
    with pytest.raises(AudioError, match=r"\(64,\)"):
        gate.push(np.full(64, -50, np.float32))


@pytest.mark.parametrize("name", list(LIMITS))
@pytest.mark.parametrize("value", [-1e9, 1e9, math.nan, "loud", True, None])
def test_settings_out_of_range_say_what_is_accepted(name: str, value: object) -> None:
    low, high = LIMITS[name]
    with pytest.raises(AlmError, match=f"GateSettings.{name}: found .* expected a number from {low:g} to {high:g}"):
        GateSettings(**{name: value})  # type: ignore[arg-type]


def test_every_setting_has_limits_and_they_are_accepted() -> None:
    assert set(LIMITS) == {field.name for field in dataclasses.fields(GateSettings)}
    for end in (0, 1):
        GateSettings(**{name: limits[end] for name, limits in LIMITS.items()})


@pytest.mark.parametrize("rate", [0, 9.9, 1e6, math.nan])
def test_a_frame_rate_out_of_range_is_refused(rate: float) -> None:
    with pytest.raises(AlmError, match="frame rate"):
        ActivityGate(GateSettings(), rate)
