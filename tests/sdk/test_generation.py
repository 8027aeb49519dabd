"""Decoding: greedy, sampling, stops, and text that arrives in whole characters."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from fakes import PREFIX, PROMPT_TOKENS, ROOM, STOP, ids_of, tokenizer
from hypothesis import given
from hypothesis import strategies as st

import alm
from alm.answering.generation import Settings, sampler
from alm.errors import EngineError, PromptError
from alm.models.mellow import Mellow
from alm.texts.detokenize import TextStream

BYTES = tokenizer()


def decode(ids: list[int]) -> str:
    return BYTES.decode(list(ids), skip_special_tokens=False)


def streamed(ids: list[int], stop: tuple[str, ...] = ()) -> tuple[list[tuple[int, str]], bool]:
    stream = TextStream(decode, stop)
    pieces: list[tuple[int, str]] = []
    for token in ids:
        pieces.extend(stream.push(token))
        if stream.stopped:
            return pieces, True
    return [*pieces, *stream.finish()], False


@given(st.binary(max_size=40))
def test_pieces_join_to_the_decoded_text(data: bytes) -> None:
    pieces, _ = streamed(ids_of(data))
    assert [token for token, _ in pieces] == ids_of(data)
    assert "".join(text for _, text in pieces) == decode(ids_of(data))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_no_piece_holds_half_a_character(text: str) -> None:
    pieces, _ = streamed(ids_of(text))
    assert "".join(piece for _, piece in pieces) == text
    assert all("\ufffd" not in piece for _, piece in pieces) or "\ufffd" in text


@given(st.text("abé", max_size=30), st.lists(st.text("abé", min_size=1, max_size=4), min_size=1, max_size=3))
def test_stop_strings_cut_at_the_first(text: str, stops: list[str]) -> None:
    pieces, stopped = streamed(ids_of(text), tuple(stops))
    cuts = [text.index(stop) for stop in stops if stop in text]
    # Of two stop strings that overlap, the one that is complete first ends the answer.
    ends = [text.index(stop) + len(stop) for stop in stops if stop in text]
    assert stopped == bool(cuts)
    joined = "".join(piece for _, piece in pieces)
    if not cuts:
        assert joined == text
    else:
        seen = text[: min(ends)]
        assert joined == seen[: min(seen.index(stop) for stop in stops if stop in seen)]


def test_text_is_not_held_back_longer_than_needed() -> None:
    stream = TextStream(decode, ("END",))
    assert list(stream.push(ids_of("a")[0])) == [(ids_of("a")[0], "a")]
    assert list(stream.push(ids_of("E")[0])) == []
    assert [text for _, text in stream.push(ids_of("x")[0])] == ["", "Ex"]


def test_answer_ends_at_the_stop_token(model: Mellow, clip: alm.Clip) -> None:
    model.reader.decoder.script = ids_of("a dög ")
    answer = clip.ask("what?")
    assert answer.text == "a dög "
    assert list(answer.tokens) == ids_of("a dög ")
    assert answer.finish_reason == "stop"


def test_a_stop_token_at_once_gives_an_empty_answer(model: Mellow, clip: alm.Clip) -> None:
    model.reader.decoder.script = [STOP]
    answer = clip.ask("what?")
    assert (answer.text, answer.tokens, answer.finish_reason) == ("", (), "stop")


def test_a_stop_string_ends_the_answer(model: Mellow, clip: alm.Clip) -> None:
    model.reader.decoder.script = ids_of("one. two. three.")
    answer = clip.ask("what?", stop=". t")
    assert (answer.text, answer.finish_reason) == ("one", "stop_string")


def test_what_was_held_back_comes_out_at_the_end(model: Mellow, clip: alm.Clip) -> None:
    model.reader.decoder.script = ids_of("one. ")
    assert clip.ask("what?", stop=". t").text == "one. "
    model.reader.decoder.script = ids_of("€")[:2]
    assert clip.ask("what?").text == "\ufffd"
    model.reader.decoder.script = ids_of("x€")
    assert clip.ask("what?", max_tokens=2).text == "x\ufffd"


def test_of_two_stop_strings_complete_at_once_the_longer_cuts() -> None:
    pieces, stopped = streamed(ids_of("xabcd"), ("bc", "abc"))
    assert stopped
    assert "".join(text for _, text in pieces) == "x"


def test_special_tokens_in_an_answer_are_kept_as_the_authors_keep_them(model: Mellow, clip: alm.Clip) -> None:
    model.reader.decoder.script = ids_of("oh! no")
    assert clip.ask("what?").text == "oh! no"


def test_length_limits(model: Mellow, clip: alm.Clip) -> None:
    model.reader.decoder.script = ids_of("x" * 500)
    assert (len(clip.ask("what?").tokens), clip.ask("what?").finish_reason) == (20, "length")
    assert len(clip.ask("what?", max_tokens=1).tokens) == 1
    assert len(clip.ask("what?", max_tokens=ROOM).tokens) == ROOM
    with pytest.raises(PromptError, match=f"max_tokens is {ROOM + 1}; this package has room for {ROOM}"):
        clip.ask("what?", max_tokens=ROOM + 1)


def test_the_last_token_is_not_run(model: Mellow, clip: alm.Clip) -> None:
    model.reader.decoder.script = ids_of("xyz")
    model.reader.decoder.appended.clear()
    clip.ask("what?", max_tokens=3)
    assert model.reader.decoder.appended == [PROMPT_TOKENS, 1, 1]


def test_greedy_takes_the_lowest_of_equals() -> None:
    assert sampler(Settings())(np.array([0, 2, 1, 2], np.float32)) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_numbers_that_are_not_finite_are_an_error(bad: float, temperature: float) -> None:
    with pytest.raises(EngineError, match="alm verify"):
        sampler(Settings(temperature=temperature))(np.array([0, bad, 1], np.float32))


def test_sampling_follows_the_softmax() -> None:
    pick = sampler(Settings(temperature=2.0, seed=1))
    logits = np.log(np.array([0.7, 0.2, 0.1])).astype(np.float32) * 2
    counts = np.bincount([pick(logits) for _ in range(4000)], minlength=3) / 4000
    assert np.allclose(counts, [0.7, 0.2, 0.1], atol=0.03)


def test_top_p_keeps_the_token_that_crosses_it() -> None:
    logits = np.log(np.array([0.1, 0.5, 0.3, 0.1])).astype(np.float32)
    pick = sampler(Settings(temperature=1.0, top_p=0.6, seed=1))
    assert {pick(logits) for _ in range(300)} == {1, 2}
    pick = sampler(Settings(temperature=1.0, top_p=0.4, seed=1))
    assert {pick(logits) for _ in range(100)} == {1}


@given(st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=30), st.floats(0.05, 0.99))
def test_the_nucleus_is_the_smallest_that_holds_top_p(values: list[float], top_p: float) -> None:
    logits = np.array(values, np.float32)
    pick = sampler(Settings(temperature=1.0, top_p=top_p, seed=0))
    drawn = {pick(logits) for _ in range(40)}
    shares = np.exp(logits.astype(np.float64)) / np.exp(logits.astype(np.float64)).sum()
    heavier = [shares[shares > shares[token]].sum() for token in drawn]
    assert max(heavier) < top_p + 1e-9


def test_numpy_numbers_are_numbers(clip: alm.Clip) -> None:
    answer = clip.ask("what?", max_tokens=np.int64(3), temperature=np.float32(0.5), seed=np.int64(1))
    assert answer == dataclasses.replace(clip.ask("what?", max_tokens=3, temperature=0.5, seed=1), timing=answer.timing)


def test_a_seed_repeats_and_other_seeds_differ(clip: alm.Clip) -> None:
    def sampled(seed: int) -> tuple[int, ...]:
        return clip.ask("what?", temperature=5.0, seed=seed).tokens

    assert sampled(1) == sampled(1)
    assert sampled(1) != sampled(2)
    assert clip.ask("what?", temperature=5.0).tokens != clip.ask("what?", temperature=5.0).tokens


def test_a_tiny_temperature_is_greedy(clip: alm.Clip) -> None:
    assert clip.ask("what?", temperature=1e-30, seed=1).tokens == clip.ask("what?").tokens


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", "hot"),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("seed", -1),
        ("stop", ""),
        ("stop", ["a", ""]),
    ],
)
def test_options_out_of_range_name_themselves(clip: alm.Clip, name: str, value: object) -> None:
    with pytest.raises(PromptError, match=f"^{name} is "):
        clip.ask("what?", **{name: value})


def test_positions_of_the_fake_are_those_of_the_manifest(model: Mellow) -> None:
    assert model.info.prompt.prefix_tokens == PREFIX + PROMPT_TOKENS
