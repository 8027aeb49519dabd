"""Several questions on one engine: one run at a time, in order, few waiting, none stuck, no thread left."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from fakes import PREFIX, PROMPT_TOKENS, FakeCache, FakeGraph, ids_of, noise
from tiny_mellow import FRONTEND
from tiny_mellow import RATE as TINY_RATE

import alm
from alm.answering.turns import Stopped, Turns
from alm.errors import AlmError, BusyError, EngineError
from alm.models.mellow import Mellow

PATIENCE = 20


def until(holds: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.001)


def in_line(model: Mellow) -> int:
    return len(model.reader.turns._line)


def load(package: Path, waiting: int) -> Mellow:
    return alm.load(package, waiting=waiting)


@contextmanager
def one_running(model: Mellow, clip: alm.Clip) -> Iterator[Future[alm.Answer]]:
    """While the block runs, the engine is in the middle of a question."""
    decoder = model.reader.decoder
    decoder.gate = threading.Event()
    decoder.busy.clear()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(clip.ask, "what is it?", max_tokens=2)
        try:
            assert decoder.busy.wait(PATIENCE)
            yield running
        finally:
            decoder.gate.set()
            running.result(PATIENCE)
            decoder.gate = None


def test_runs_go_one_at_a_time(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most = 0, 0
    mutex = threading.Lock()

    def counted(work: Callable[..., object]) -> Callable[..., object]:
        def run(*arguments: object, **named: object) -> object:
            nonlocal inside, most
            with mutex:
                inside += 1
                most = max(most, inside)
            time.sleep(0.0005)
            try:
                return work(*arguments, **named)
            finally:
                with mutex:
                    inside -= 1

        return run

    monkeypatch.setattr(FakeCache, "_run", counted(FakeCache._run))
    monkeypatch.setattr(FakeGraph, "run", counted(FakeGraph.run))

    def work(seed: int) -> tuple[object, ...]:
        with model.listen(noise(1, seed=seed)) as clip:
            pieces = [piece.token for piece in clip.stream("how many?", max_tokens=3)]
            return clip.ask("what?", max_tokens=3).tokens, pieces, clip.choose("loud?", ["yes", "no"]).probabilities

    with load(package, waiting=8) as model:
        alone = [work(seed) for seed in range(6)]
    with load(package, waiting=8) as model, ThreadPoolExecutor(6) as pool:
        assert list(pool.map(work, range(6))) == alone
    assert most == 1


def test_first_come_first_served() -> None:
    turns, order = Turns(), []

    def take(number: int) -> None:
        with turns.turn():
            order.append(number)

    with ThreadPoolExecutor(8) as pool:
        with turns.turn():
            for number in range(8):
                pool.submit(take, number)
                until(lambda: len(turns._line) == number + 1)  # noqa: B023
        until(lambda: len(order) == 8)
    assert order == list(range(8))


def test_a_long_answer_gives_way_after_each_token(model: Mellow, clip: alm.Clip) -> None:
    decoder = model.reader.decoder
    decoder.script = ids_of("x" * 20)
    long = clip.stream("what?", max_tokens=20)
    next(long)
    decoder.appended.clear()
    decoder.busy.clear()
    decoder.gate = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        rest = pool.submit(long.finish)
        assert decoder.busy.wait(PATIENCE)
        short = pool.submit(clip.ask, "why?", max_tokens=2)
        until(lambda: in_line(model) == 1)
        decoder.gate.set()
        assert len(rest.result(PATIENCE).tokens) == 20
        assert len(short.result(PATIENCE).tokens) == 2
    assert decoder.appended[:2] == [1, PROMPT_TOKENS]


def test_a_question_counts_until_it_is_answered(model: Mellow, clip: alm.Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also between its tokens; a stream does not, because nobody knows when it is read on."""
    counted, take = [], alm.AnswerStream.__next__

    def taken(stream: alm.AnswerStream) -> alm.Piece:
        piece = take(stream)
        counted.append(model.reader.turns._inside)
        return piece

    monkeypatch.setattr(alm.AnswerStream, "__next__", taken)
    model.reader.decoder.script = ids_of("xyz")
    clip.ask("what?")
    assert counted == [1, 1, 1]
    list(clip.stream("what?"))
    assert counted[3:] == [0, 0, 0]


def test_a_bounded_number_waits(package: Path) -> None:
    with load(package, waiting=1) as model:
        clip = model.listen(noise(1))
        untaken = clip.stream("how many?", max_tokens=3)
        with one_running(model, clip) as running, ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(clip.ask, "why?", max_tokens=3)
            until(lambda: in_line(model) == 1)
            refused: list[Callable[[], object]] = [
                lambda: clip.ask("what?"),
                lambda: clip.stream("what?"),
                lambda: clip.choose("loud?", ["yes", "no"]),
                lambda: model.listen(noise(1)),
                lambda: model.compare(noise(1), noise(1, seed=1), "what?"),
                lambda: asyncio.run(clip.ask_async("what?")),
                lambda: asyncio.run(clip.choose_async("loud?", ["yes", "no"])),
                lambda: next(untaken),
            ]
            for ask in refused:
                with pytest.raises(BusyError, match=r"2 questions are being answered, and waiting=1 .* ask again"):
                    ask()
            assert in_line(model) == 1
            model.reader.decoder.gate.set()
            assert running.result(PATIENCE).tokens == clip.ask("what is it?", max_tokens=2).tokens
            assert waiting.result(PATIENCE).tokens == clip.ask("why?", max_tokens=3).tokens
        assert untaken.finish().tokens == clip.ask("how many?", max_tokens=3).tokens


def test_async_questions_are_counted_where_they_are_asked(package: Path) -> None:
    """Past the bound they fail at once, also while all worker threads are taken by others."""

    async def talk() -> list[object]:
        asked = [clip.ask_async("what?", max_tokens=2) for _ in range(40)]
        return await asyncio.gather(*asked, return_exceptions=True)

    with load(package, waiting=2) as model:
        clip = model.listen(noise(1))
        results = asyncio.run(talk())
        answered = [result for result in results if isinstance(result, alm.Answer)]
        assert len(answered) == 3
        assert sum(isinstance(result, BusyError) for result in results) == 37
        assert {answer.tokens for answer in answered} == {clip.ask("what?", max_tokens=2).tokens}


def test_nobody_waits_where_none_may(package: Path) -> None:
    """One question after the other, a pair and long recordings need no place to wait."""
    with load(package, waiting=0) as model, model.listen(noise(6.0)) as clip:
        assert clip.ask("what?", max_tokens=2).tokens
        assert clip.choose("loud?", ["yes", "no"]).text
        assert model.compare(noise(1), noise(1, seed=1), "what?", max_tokens=2).tokens


def test_a_stream_left_half_read_holds_nothing(package: Path) -> None:
    with load(package, waiting=0) as model:
        clip = model.listen(noise(1))
        whole = clip.ask("how many?", max_tokens=6)
        half = [clip.stream("how many?", max_tokens=6) for _ in range(5)]
        for stream in half:
            next(stream)
        assert clip.ask("what?").tokens == clip.ask("what?").tokens
        # A stream that has begun is read on also when nobody else would be let in.
        with one_running(model, clip), ThreadPoolExecutor(5) as pool:
            with pytest.raises(BusyError):
                clip.ask("what?")
            ends = [pool.submit(stream.finish) for stream in half]
            until(lambda: in_line(model) == 5)
            model.reader.decoder.gate.set()
            assert [end.result(PATIENCE).tokens for end in ends] == [whole.tokens] * 5
        abandoned = clip.stream("what?")
        next(abandoned)
        del abandoned
        assert clip.ask("what?").tokens


def test_closing_a_stream_that_waits_ends_the_wait(model: Mellow, clip: alm.Clip) -> None:
    stream = clip.stream("why?")
    with one_running(model, clip), ThreadPoolExecutor(1) as pool:
        taken = pool.submit(list, stream)
        until(lambda: in_line(model) == 1)
        stream.close()
        assert taken.result(PATIENCE) == []
        assert in_line(model) == 0
        with pytest.raises(AlmError, match="was cancelled"):
            _ = stream.answer


@pytest.mark.parametrize("way", ["ask", "choose", "stream"])
def test_cancelling_a_task_that_waits_ends_the_wait(model: Mellow, clip: alm.Clip, way: str) -> None:
    before = threading.active_count()

    async def give_up() -> None:
        questions = {
            "ask": lambda: clip.ask_async("why?"),
            "choose": lambda: clip.choose_async("loud?", ["yes", "no"]),
            "stream": lambda: anext(clip.stream_async("why?")),
        }
        task = asyncio.ensure_future(questions[way]())
        await asyncio.to_thread(until, lambda: in_line(model) == 1)
        model.reader.decoder.appended.clear()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(until, lambda: in_line(model) == 0)

    with one_running(model, clip):
        # The loop ends while the engine is still busy: its worker does not wait for a turn that no one wants.
        asyncio.run(give_up())
        assert model.reader.decoder.appended == []
    assert threading.active_count() == before
    assert clip.ask("what?").tokens


def test_an_interrupt_leaves_the_line() -> None:
    turns = Turns()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with ThreadPoolExecutor(1) as pool:
            entered, leave = threading.Event(), threading.Event()

            def hold() -> None:
                with turns.turn():
                    entered.set()
                    leave.wait(PATIENCE)

            holding = pool.submit(hold)
            assert entered.wait(PATIENCE)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt), turns.turn():
                pass
            assert not turns._line
            leave.set()
            holding.result(PATIENCE)
        with turns.turn():
            pass
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_run_that_fails_passes_the_turn_on(model: Mellow, clip: alm.Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:

        def fail(*_: object) -> None:
            raise EngineError("no")

        patch.setattr(FakeCache, "_run", fail)
        for _ in range(3):
            with pytest.raises(EngineError):
                clip.ask("what?")
    assert clip.ask("what?").tokens


def test_turns_under_stress() -> None:
    """Many threads that come, wait, give up and fail: never two at once, nobody left behind."""
    turns, inside, done = Turns(waiting=1000), [], []

    def live(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(60):
            question = turns.question()
            if chance.random() < 0.3:
                threading.Timer(chance.random() / 1000, question.stop).start()
            with suppress(Stopped, ZeroDivisionError), question, turns.turn(question):
                inside.append(seed)
                assert inside == [seed]
                time.sleep(0)
                inside.remove(seed)
                if chance.random() < 0.1:
                    raise ZeroDivisionError
        done.append(seed)

    threads = [threading.Thread(target=live, args=(seed,), daemon=True) for seed in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(done) == list(range(10))
    assert not turns._line
    assert turns._running is None
    assert turns._inside == 0


def test_a_stopped_question_takes_no_turn() -> None:
    turns = Turns()
    question = turns.question()
    question.stop()

    def take() -> None:
        with turns.turn(question):
            pass

    with pytest.raises(Stopped):
        take()
    # Nor does it wait for one.
    with ThreadPoolExecutor(1) as pool, turns.turn(), pytest.raises(Stopped):
        pool.submit(take).result(PATIENCE)


@pytest.mark.parametrize("waiting", [-1, 1.5, True, None, "3"])
def test_waiting_is_a_number(package: Path, waiting: object) -> None:
    with pytest.raises(AlmError, match=r"waiting is .*; it must be a whole number, at least 0"):
        alm.load(package, waiting=waiting)  # type: ignore[arg-type]


def test_prefixes_of_late_windows_take_turns_and_stop(model: Mellow) -> None:
    clip, decoder = model.listen(noise(6.0)), model.reader.decoder
    decoder.script = []
    decoder.appended.clear()
    stream = clip.stream("what?")
    assert list(stream) == []
    assert decoder.appended.count(PREFIX) == 2
    assert decoder.appended.count(PROMPT_TOKENS) == 6


def tasks() -> int:
    """Threads of this process, those of libraries included."""
    return len(list(Path("/proc/self/task").iterdir()))


def test_closing_leaves_no_thread(tiny_package: Path) -> None:
    """Neither worker threads of ours nor of asyncio, nor those in which the engine computes."""
    sound = (np.sin(np.arange(FRONTEND.samples)).astype(np.float32), TINY_RATE)

    def talk() -> None:
        with alm.load(tiny_package, threads=3) as model, model.listen(sound) as clip, clip.fork() as fork:
            asyncio.run(clip.ask_async("what?", max_tokens=2))
            with ThreadPoolExecutor(3) as pool:
                assert len({answer.tokens for answer in pool.map(fork.ask, ["what?"] * 3)}) == 1
            assert tasks() > before

    before = tasks()
    talk()
    until(lambda: tasks() == before)
