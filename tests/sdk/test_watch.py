"""Watching: the events of a source, at any pace, under back-pressure, and how it all ends."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from fakes import PREFIX, RATE, SAMPLES, ids_of, noise
from test_listening_windows import GATE, sounds

import alm
from alm.answering.answers import Answer, Timing
from alm.listening.blocks import Block
from alm.listening.bounded import Bounded
from alm.listening.events import LONGEST_SECONDS, Event, Merging
from alm.listening.sources import RecordingSource
from alm.listening.watch import EVENTS_WAITING, WINDOWS_WAITING
from alm.listening.windows import SoundWindow
from alm.models.mellow import Mellow

QUESTION = "what is it?"
SPANS = [(1.5, 1.9), (3.0, 3.05), (4.5, 5.0)]
TIMING = Timing(1.0, 2.0, 3.0, 4.0)


class Feed:
    """A live source that hands out what a test gives it, and can fail."""

    sample_rate = RATE

    def __init__(self, *, live: bool = True) -> None:
        self.live = live
        self.items: Bounded[Block] = Bounded(10_000)
        self.closed = False

    def give(self, samples: np.ndarray, lost: int = 0, at: float = math.nan) -> None:
        self.items.put(Block(samples, lost, at))

    def blocks(self) -> Iterator[Block]:
        return self.items

    def close(self) -> None:
        self.closed = True
        self.items.close()


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("alm-watch")]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert watchers() == []


def until(holds: object, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def test_events_have_time_level_and_text(model: Mellow) -> None:
    model.reader.decoder.script = ids_of("a bell.")  # type: ignore[attr-defined]
    with model.watch((sounds(*SPANS), RATE), QUESTION, gate=GATE) as events:
        found = [*events]
        assert [*events] == []
    assert [event.text for event in found] == ["a bell."] * 3
    for event, (start, end) in zip(found, SPANS, strict=True):
        assert event.start == pytest.approx(start - GATE.pre_roll_seconds, abs=0.06)
        assert event.end > end - 0.06
        assert event.level_db == pytest.approx(-13.5, abs=3.5)
        assert (event.time, event.lost) == (None, 0)
        assert event.timing.first_token > 0


@pytest.mark.parametrize("gate", [GATE, None])
def test_pace_blocks_and_offline_give_the_same_events(model: Mellow, gate: alm.GateSettings | None) -> None:
    samples = sounds(*SPANS)

    def events(source: object) -> list[Event]:
        with model.watch(source, QUESTION, gate=gate, max_tokens=6) as stream:  # type: ignore[arg-type]
            return [*stream]

    offline = Feed(live=False)
    offline.give(samples)
    offline.items.end()
    expected = events(offline)
    assert len(expected) >= 3
    assert events((samples, RATE)) == expected
    # Paced, it takes 0.3 s; a machine that is too slow for that drops windows, which `lost` would show.
    assert events(RecordingSource((samples, RATE), paced=20.0)) == expected


def test_each_description_is_the_draft_of_the_next(model: Mellow) -> None:
    decoder = model.reader.decoder
    decoder.script, decoder.appended = ids_of("rain"), []  # type: ignore[attr-defined]
    with model.watch(noise(2.5), QUESTION, gate=None, draft="rat") as stream:
        assert [event.text for event in stream] == ["rain"]
    passes = [rows for rows in decoder.appended if rows < PREFIX]  # type: ignore[attr-defined]
    assert passes == [len("rat"), 1, 1, 1, 1, len("rain"), len("rain")]


def test_async_events_are_the_same(model: Mellow) -> None:
    samples = sounds(*SPANS)
    with model.watch((samples, RATE), QUESTION, gate=GATE) as stream:
        expected = [*stream]

    async def collect() -> list[Event]:
        with model.watch((samples, RATE), QUESTION, gate=GATE) as stream:
            return [event async for event in stream]

    assert asyncio.run(collect()) == expected


def test_a_wait_that_times_out_takes_no_event_away(model: Mellow) -> None:
    feed = Feed(live=False)

    async def wait() -> Event:
        with model.watch(feed, QUESTION, gate=GATE) as stream:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.05)
            feed.give(sounds((1.5, 1.9), seconds=4.0))
            return await asyncio.wait_for(anext(stream), 20)

    assert asyncio.run(wait()).start == pytest.approx(1.4, abs=0.06)
    assert feed.closed


def test_unix_times_come_from_the_source(model: Mellow) -> None:
    model.reader.decoder.script, feed = ids_of("a bell."), Feed(live=False)  # type: ignore[attr-defined]
    # The wall clock is set back an hour in the middle; the stream's own clock goes on.
    feed.give(sounds((1.5, 1.9), seconds=4.0), at=5000.0)
    feed.give(sounds((1.5, 1.9), seconds=4.0), at=1404.0)
    feed.items.end()
    with model.watch(feed, QUESTION, gate=GATE) as stream:
        first, second = stream
    assert first.time == pytest.approx(5000 + first.start)
    assert second.time == pytest.approx(1400 + second.start)
    assert second.start == pytest.approx(first.start + 4, abs=0.06)


def test_a_live_source_drops_the_oldest_windows_and_says_so(model: Mellow) -> None:
    decoder, feed = model.reader.decoder, Feed()
    decoder.gate = threading.Event()  # type: ignore[attr-defined]
    windows = WINDOWS_WAITING + 30
    hop = round(0.8 * SAMPLES)
    with model.watch(feed, QUESTION, gate=None, max_tokens=1) as stream:
        feed.give(noise(1.1)[0])
        until(decoder.busy.is_set)  # type: ignore[attr-defined]
        for seed in range(windows):
            feed.give(noise(0.8, seed)[0])
        until(lambda: not feed.items._items)
        feed.items.end()
        until(lambda: len(stream._threads) == 2 and not stream._threads[1].is_alive())
        decoder.gate.set()  # type: ignore[attr-defined]
        found = [*stream]
    seconds = (SAMPLES * 1.1 + windows * hop) / RATE
    assert found[-1].end == pytest.approx(seconds, abs=0.01)
    # One was being answered, WINDOWS_WAITING waited, all others were dropped.
    assert sum(event.lost for event in found) == pytest.approx(
        (windows + 1 - WINDOWS_WAITING) * SAMPLES / RATE, abs=0.11
    )
    assert [event.lost > 0 for event in found].count(True) == 1


def test_a_recording_waits_for_a_slow_consumer(model: Mellow) -> None:
    samples, _ = noise(3 * EVENTS_WAITING)
    read = 0

    class Counted(Feed):
        def blocks(self) -> Iterator[Block]:
            nonlocal read
            for at in range(0, len(samples), SAMPLES):
                read += 1
                yield Block(samples[at : at + SAMPLES], 0, math.nan)

    with model.watch(Counted(live=False), QUESTION, gate=None, max_tokens=3) as stream:
        until(lambda: len(stream._events._items) == EVENTS_WAITING)
        time.sleep(0.05)
        assert read < 1.5 * EVENTS_WAITING
        found = [*stream]
    assert len(found) > 2 * EVENTS_WAITING
    assert sum(event.lost for event in found) == 0
    assert found[-1].end == len(samples) / RATE


@pytest.mark.parametrize("live", [True, False])
def test_an_error_of_the_source_comes_after_its_events(model: Mellow, live: bool) -> None:
    feed = Feed(live=live)
    feed.give(noise(2.5)[0])
    feed.items.end(alm.AudioError("the microphone is gone"))
    stream, found = model.watch(feed, QUESTION, gate=None), []
    with pytest.raises(alm.AudioError, match="the microphone is gone"):
        while True:
            found.append(next(stream))
    assert found[-1].end == 2.5 * SAMPLES / RATE
    assert watchers() == []
    assert [*stream] == []


def test_an_error_of_the_model_is_raised(model: Mellow) -> None:
    tensors = model.reader.decoder.tensors  # type: ignore[attr-defined]
    tensors["head"] = np.full_like(tensors["head"], np.nan)
    with pytest.raises(alm.EngineError, match="nan"), model.watch(noise(2), QUESTION, gate=None) as stream:
        next(stream)


def test_wrong_arguments_are_refused_at_the_call(model: Mellow, tmp_path: object) -> None:
    for question, options in (("", {}), (QUESTION, {"max_tokens": 0}), ("word " * 80, {})):
        feed = Feed()
        with pytest.raises(alm.PromptError):
            model.watch(feed, question, **options)  # type: ignore[arg-type]
    with pytest.raises(alm.AudioError, match="cannot be opened"):
        model.watch(f"{tmp_path}/none.wav", QUESTION)


@pytest.mark.parametrize("moment", ["waiting", "answering", "blocked"])
def test_close_from_another_thread_ends_everything(model: Mellow, moment: str) -> None:
    decoder, feed = model.reader.decoder, Feed()
    stream = model.watch(feed, QUESTION, gate=None)
    closer = threading.Thread(target=stream.close)
    if moment == "answering":
        decoder.gate = threading.Event()  # type: ignore[attr-defined]
        feed.give(noise(3)[0])
        until(decoder.busy.is_set)  # type: ignore[attr-defined]
        closer.start()
        decoder.gate.set()  # type: ignore[attr-defined]
    elif moment == "blocked":
        for seed in range(20 + EVENTS_WAITING):
            feed.give(noise(1, seed)[0])
        closer.start()
    else:
        threading.Timer(0.05, closer.start).start()
    assert len([*stream]) < EVENTS_WAITING
    closer.join(20)
    assert feed.closed
    assert watchers() == []


def test_ctrl_c_while_waiting_closes(model: Mellow, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Feed()
    stream = model.watch(feed, QUESTION)

    def interrupted(self: object, predicate: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Condition, "wait_for", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(stream)
    assert feed.closed
    assert watchers() == []


def test_a_busy_model_is_asked_again(package: object) -> None:
    with alm.load(package, waiting=0) as model:  # type: ignore[arg-type]
        question = model.reader.turns.question()
        with question:
            stream = model.watch(noise(1.5), QUESTION, gate=None, max_tokens=3)
            time.sleep(0.1)
            assert not stream._events._items
        with stream:
            assert len([*stream]) >= 1


def window(start: float, end: float, activity: int = 0, last: bool = False, level: float = -20.0) -> SoundWindow:
    return SoundWindow(np.zeros(1, np.float32), start, end, math.nan, level, activity, last, 0.0)


def told(*windows: tuple[SoundWindow, str]) -> list[tuple[float, float, str]]:
    merging, found = Merging(), []
    for each, text in windows:
        found += merging.add(each, Answer(f" {text}", (), TIMING, "stop", ()), 0.5)
    return [(event.start, event.end, event.text) for event in [*found, *merging.finish()]]


def test_windows_that_say_the_same_are_one_event() -> None:
    assert told((window(0, 10), "rain"), (window(8, 18), "rain"), (window(16, 20, last=True), "dog")) == [
        (0, 18, "rain"),
        (16, 20, "dog"),
    ]


def test_other_activities_and_gaps_are_other_events() -> None:
    assert len(told((window(0, 2, 0, last=True), "rain"), (window(2, 4, 1, last=True), "rain"))) == 2
    assert len(told((window(0, 10), "rain"), (window(12, 18), "rain"))) == 2
    # The end of an activity whose last window was dropped.
    assert len(told((window(0, 10, 0), "rain"), (window(9, 18, 1), "rain"))) == 2


def test_a_sound_that_goes_on_is_told_every_minute() -> None:
    merging, given = Merging(), []
    for start in range(0, 200, 8):
        answer = Answer("rain", (), TIMING, "stop", ())
        for event in merging.add(window(start, start + 10), answer, 0.0):
            given.append(event)
            assert start + 10 == event.end
    assert len(given) == 3
    assert all(LONGEST_SECONDS <= event.end - event.start < LONGEST_SECONDS + 10 for event in given)


def test_merged_events_keep_the_loudest_level_and_all_that_was_lost() -> None:
    merging = Merging()
    answer = Answer("rain", (), TIMING, "stop", ())
    assert [*merging.add(window(0, 10, level=-30), answer, 1.5)] == []
    (event,) = merging.add(window(8, 12, last=True, level=-10), answer, 2.0)
    assert (event.start, event.end, event.level_db, event.lost) == (0, 12, -10, 3.5)
