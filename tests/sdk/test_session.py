"""Clip sessions: what is kept, what is shared, what is cancelled."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fakes import AUDIO_TOKENS, PREFIX, PROMPT_TOKENS, RATE, SAMPLES, ids_of, noise

import alm
from alm.errors import AlmError, AudioError
from alm.heard.prefix import KEPT_PREFIXES
from alm.models.mellow import Mellow

QUESTIONS = ["what is it?", "how many?", "is it loud?", "where?"]


def by_hand(model: Mellow, samples: np.ndarray, question: str, count: int) -> list[int]:
    """Greedy ids from the whole sequence at once, without sessions, forks or steps."""
    decoder = model.reader.decoder
    audio = model.encode(samples)["audio_tokens"]
    separator = decoder.embed(np.array([0]))
    rows = [audio, separator, audio, separator, decoder.embed(model.reader.tokenizer.prompt(question))]
    ids: list[int] = []
    while len(ids) < count:
        tail = [decoder.embed(np.array(ids))] if ids else []
        ids.append(int(decoder.new_cache().append(np.concatenate([*rows, *tail])).argmax()))
    return ids


def test_ask_equals_the_sequence_run_from_scratch(model: Mellow) -> None:
    samples, rate = noise(1)
    with model.listen((samples, rate)) as clip:
        for question in QUESTIONS:
            answer = clip.ask(question, max_tokens=10)
            assert list(answer.tokens) == by_hand(model, samples, question, 10)[: len(answer.tokens)]
            assert len(answer.tokens) > 1


def test_answers_depend_on_sound_and_question(model: Mellow) -> None:
    one, two = model.listen(noise(1, seed=1)), model.listen(noise(1, seed=2))
    assert one.ask("what?").tokens != two.ask("what?").tokens
    assert one.ask("what?").tokens != one.ask("why?").tokens


def test_the_prefix_is_run_once(model: Mellow) -> None:
    decoder = model.reader.decoder
    decoder.appended.clear()
    clip = model.listen(noise(1))
    assert decoder.appended == [PREFIX]
    clip.ask("what?", max_tokens=1)
    clip.ask("why?", max_tokens=1)
    assert decoder.appended == [PREFIX, PROMPT_TOKENS, PROMPT_TOKENS]


def test_one_encoder_pass_for_equal_sound(model: Mellow, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda samples: passes.append(1) or encode(samples))
    same = model.listen(noise(1), noise(1))
    assert len(passes) == 1
    assert same.ask("what?").tokens == model.listen(noise(1)).ask("what?").tokens
    model.listen(noise(1, seed=4), noise(1, seed=5))
    assert len(passes) == 3


def test_the_order_of_a_pair_counts(model: Mellow) -> None:
    a, b = noise(1, seed=1), noise(1, seed=2)
    assert model.compare(a, b, "what differs?").tokens != model.compare(b, a, "what differs?").tokens
    assert model.compare(a, b, "why?", max_tokens=3).tokens == model.listen(a, b).ask("why?", max_tokens=3).tokens


def test_stream_pieces_are_the_answer(clip: alm.Clip) -> None:
    stream = clip.stream("what?")
    pieces = list(stream)
    answer = clip.ask("what?")
    assert "".join(piece.text for piece in pieces) == answer.text == stream.answer.text
    assert tuple(piece.token for piece in pieces) == answer.tokens == stream.answer.tokens
    assert all(piece.window == 0 for piece in pieces)
    seconds = [piece.seconds for piece in pieces]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


def test_timing_adds_up(clip: alm.Clip) -> None:
    timing = clip.ask("what?").timing
    assert timing.encode > 0
    assert 0 < timing.prefill <= timing.first_token
    assert timing.decode > 0


def test_closing_a_stream_stops_the_decoder(model: Mellow, clip: alm.Clip) -> None:
    model.reader.decoder.script = ids_of("x" * 20)
    model.reader.decoder.appended.clear()
    with clip.stream("what?") as stream:
        next(stream)
        next(stream)
    assert list(stream) == []
    assert model.reader.decoder.appended == [PROMPT_TOKENS, 1]
    with pytest.raises(AlmError, match="was cancelled"):
        _ = stream.answer


def test_an_unfinished_stream_has_no_answer(clip: alm.Clip) -> None:
    stream = clip.stream("what?")
    next(stream)
    with pytest.raises(AlmError, match="has pieces left"):
        _ = stream.answer
    assert stream.finish() == stream.answer


def test_close_from_another_thread(model: Mellow, clip: alm.Clip) -> None:
    decoder = model.reader.decoder
    decoder.gate = threading.Event()
    stream = clip.stream("what?")
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(list, stream)
        assert decoder.busy.wait(20)
        stream.close()
        decoder.appended.clear()
        decoder.gate.set()
        assert len(taken.result(20)) <= 1
    assert decoder.appended == []


def test_threads_get_the_answers_of_one_thread(clip: alm.Clip) -> None:
    work = QUESTIONS * 6
    alone = [clip.ask(question) for question in work]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(clip.ask, work))
    assert [answer.tokens for answer in together] == [answer.tokens for answer in alone]


def test_streams_may_be_taken_in_turn(clip: alm.Clip) -> None:
    streams = [clip.stream(question, max_tokens=8) for question in QUESTIONS]
    texts = [""] * len(streams)
    for _ in range(9):
        for number, stream in enumerate(streams):
            piece = next(stream, None)
            texts[number] += piece.text if piece else ""
    assert texts == [clip.ask(question, max_tokens=8).text for question in QUESTIONS]


def test_async_twins(clip: alm.Clip) -> None:
    async def talk() -> tuple[alm.Answer, str, alm.Choice]:
        answer, choice = await asyncio.gather(clip.ask_async("what?"), clip.choose_async("is it loud?", ["yes", "no"]))
        streamed = "".join([piece.text async for piece in clip.stream_async("what?")])
        return answer, streamed, choice

    answer, streamed, choice = asyncio.run(talk())
    assert answer.text == streamed == clip.ask("what?").text
    assert choice == clip.choose("is it loud?", ["yes", "no"])


def test_leaving_an_async_loop_cancels(model: Mellow, clip: alm.Clip) -> None:
    model.reader.decoder.script = ids_of("x" * 20)
    model.reader.decoder.appended.clear()

    async def glance() -> None:
        pieces = clip.stream_async("what?")
        async for _ in pieces:
            break
        await pieces.aclose()

    asyncio.run(glance())
    assert model.reader.decoder.appended == [PROMPT_TOKENS]


def test_cancelling_a_task_stops_the_worker(model: Mellow, clip: alm.Clip) -> None:
    decoder = model.reader.decoder
    decoder.script = ids_of("x" * 20)
    decoder.gate = threading.Event()

    async def give_up() -> None:
        task = asyncio.create_task(clip.ask_async("what?"))
        await asyncio.to_thread(decoder.busy.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        decoder.appended.clear()
        decoder.gate.set()

    asyncio.run(give_up())
    assert len(decoder.appended) <= 1


def test_the_event_loop_stays_free(model: Mellow, clip: alm.Clip) -> None:
    decoder = model.reader.decoder
    decoder.gate = threading.Event()

    async def watch() -> bool:
        task = asyncio.create_task(clip.ask_async("what?"))
        await asyncio.to_thread(decoder.busy.wait, 20)
        still_running = not task.done()
        decoder.gate.set()
        await task
        return still_running

    assert asyncio.run(watch())


def test_a_long_recording_is_answered_window_by_window(model: Mellow) -> None:
    samples, rate = noise(KEPT_PREFIXES + 2.0, seed=4)
    clip = model.listen((samples, rate))
    answer = clip.ask("what?", max_tokens=6)
    assert len(answer.windows) == KEPT_PREFIXES + 2
    for number, window in enumerate(answer.windows):
        part = samples[number * SAMPLES : (number + 1) * SAMPLES]
        assert (window.start, window.end) == pytest.approx((number * 0.1, (number + 1) * 0.1))
        assert window.tokens == model.listen((part, rate)).ask("what?", max_tokens=6).tokens
    assert answer.tokens == tuple(token for window in answer.windows for token in window.tokens)
    pieces = list(clip.stream("what?", max_tokens=6))
    for number, window in enumerate(answer.windows):
        assert "".join(piece.text for piece in pieces if piece.window == number) == window.text


def test_memory_of_long_recordings_is_bounded(model: Mellow) -> None:
    decoder = model.reader.decoder
    clip = model.listen(noise(KEPT_PREFIXES + 2.0))
    decoder.appended.clear()
    clip.ask("what?", max_tokens=1)
    assert decoder.appended.count(PREFIX) == 2


def test_windows_that_agree_are_one_line(model: Mellow) -> None:
    decoder = model.reader.decoder
    clip = model.listen(noise(3.0))
    decoder.script = ids_of("rain ")
    assert clip.ask("what?").text == "[0.0 - 0.3 s] rain"
    answers = iter(["rain ", "rain", "a dog"])
    texts = []
    for piece in clip.stream("what?"):
        if piece.window == len(texts):
            texts.append(next(answers))
    windows = clip.ask("what?").windows
    changed = (*windows[:2], alm.WindowAnswer(windows[2].start, windows[2].end, "a dog", (1,), "length"))
    from alm.answering.answers import answer_of

    joined = answer_of(changed, alm.Timing(0, 0, 0, 0))
    assert joined.text == "[0.0 - 0.2 s] rain\n[0.2 - 0.3 s] a dog"
    assert joined.finish_reason == "length"


def test_only_the_first_window_when_asked(model: Mellow) -> None:
    samples, rate = noise(2.5)
    clip = model.listen((samples, rate), window="first")
    assert clip.spans == ((0.0, 0.1),)
    assert clip.ask("what?").tokens == model.listen((samples[:SAMPLES], rate)).ask("what?").tokens


def test_a_pair_must_fit_or_say_first(model: Mellow) -> None:
    long, short = noise(1.5), noise(1, seed=2)
    with pytest.raises(AudioError, match=r"longer than 0.1 s.* window='first'"):
        model.listen(short, long)
    with pytest.raises(AudioError, match="window='first'"):
        model.compare(long, short, "what differs?")
    cut = (long[0][:SAMPLES], RATE)
    first = model.compare(long, short, "what differs?", window="first")
    assert first.tokens == model.compare(cut, short, "what differs?").tokens


def test_a_recording_shorter_than_the_window_is_tiled(model: Mellow) -> None:
    samples, rate = noise(0.5)
    tiled = np.tile(samples, 2)
    assert model.listen((samples, rate)).ask("what?").tokens == model.listen((tiled, rate)).ask("what?").tokens


def test_compat_reads_as_the_authors_do(model: Mellow) -> None:
    samples, rate = noise(1)
    stereo = np.stack([samples[:500], samples[300:]], axis=1)
    row = (np.concatenate([stereo[:, 0], stereo[:, 1]]), rate)
    compat = model.listen((stereo, rate), compat=True)
    assert compat.ask("what?").tokens == model.listen(row, window="first").ask("what?").tokens
    assert compat.ask("what?").tokens != model.listen((stereo, rate)).ask("what?").tokens


def test_progress_tells_seconds(model: Mellow) -> None:
    seen: list[float] = []
    model.listen(noise(2.5), progress=seen.append)
    assert seen == pytest.approx([0.1, 0.2, 0.25])


def test_closed_means_closed(model: Mellow) -> None:
    with model.listen(noise(1)) as clip:
        running = clip.stream("what?")
        next(running)
    clip.close()
    with pytest.raises(AlmError, match="session is closed"):
        clip.ask("what?")
    with pytest.raises(AlmError, match="session is closed"):
        clip.choose("loud?", ["yes", "no"])
    assert running.finish().tokens


def test_a_session_outlives_its_model(model: Mellow) -> None:
    clip = model.listen(noise(1))
    before = clip.ask("what?").tokens
    model.close()
    model.close()
    assert clip.ask("what?").tokens == before
    with pytest.raises(AlmError, match="model is closed"):
        model.listen(noise(1))


def test_audio_tokens_have_the_manifest_shape(model: Mellow) -> None:
    assert model.encode(noise(1)[0])["audio_tokens"].shape == (AUDIO_TOKENS, model.info.decoder.width)
