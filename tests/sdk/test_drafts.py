"""Drafts: the same answer with any of them, in fewer passes with a good one."""

from __future__ import annotations

import fakes
import numpy as np
import pytest
from fakes import PROMPT_TOKENS, VOCABULARY, FakeCache, FakeDecoder, noise
from hypothesis import given
from hypothesis import strategies as st

import alm
from alm.answering import drafts
from alm.answering.drafts import CHUNK, Continuation, is_clear
from alm.models.mellow import Mellow

QUESTION = "what is it?"


def passes(model: Mellow) -> list[int]:
    """Positions of each pass of the decoder since the last call."""
    made, model.reader.decoder.appended = model.reader.decoder.appended, []  # type: ignore[attr-defined]
    return made


def babble(seed: int = 0) -> tuple[FakeDecoder, FakeCache, np.ndarray]:
    """A decoder, a cache that holds a sequence, and the logits after it."""
    decoder = FakeDecoder(fakes.weights(seed), 512)
    cache = decoder.new_cache()
    return decoder, cache, cache.append(decoder.embed(np.arange(20, dtype=np.int64) * 7 % VOCABULARY))


def greedily(decoder: FakeDecoder, cache: FakeCache, logits: np.ndarray, count: int, draft: list[int]) -> list[int]:
    continuation, ids = Continuation(decoder, cache, draft), [int(logits.argmax())]
    while len(ids) < count:
        ids.append(int(continuation.after(ids[-1]).argmax()))
    return ids


@given(st.data())
def test_any_draft_gives_the_same_tokens(data: st.DataObject) -> None:
    decoder, cache, logits = babble(data.draw(st.integers(0, 3)))
    right = greedily(decoder, cache.fork(), logits, 40, [])
    kept = data.draw(st.integers(0, 40))
    wrong = data.draw(st.lists(st.integers(0, VOCABULARY - 1), max_size=30))
    assert greedily(decoder, cache, logits, 40, right[:kept] + wrong) == right


def test_choices_that_a_batch_could_turn_are_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that swaps the two likeliest ids wherever they are close, and keeps damaged keys for later."""
    decoder, cache, logits = babble()
    right = greedily(decoder, cache.fork(), logits, 30, [])
    whole = FakeCache.append_all

    def damaged(self: FakeCache, embeddings: np.ndarray) -> np.ndarray:
        rows = whole(self, embeddings)
        self.values[-len(embeddings) :] *= 1.02
        for row in rows:
            if not is_clear(row, drafts.CLEAR):
                second, first = np.argsort(row)[-2:]
                row[[second, first]] = row[[first, second]]
        return rows

    monkeypatch.setattr(FakeCache, "append_all", damaged)
    assert any(not is_clear(row, drafts.CLEAR) for row in whole(cache.fork(), decoder.embed(np.array(right))))
    assert greedily(decoder, cache.fork(), logits, 30, right[:25]) == right
    monkeypatch.setattr(drafts, "is_clear", lambda logits, clear: True)
    assert greedily(decoder, cache.fork(), logits, 30, right[:25]) != right


def test_a_right_draft_takes_one_pass_per_chunk(model: Mellow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafts, "is_clear", lambda logits, clear: True)
    model.reader.decoder.script = fakes.ids_of("a long story of a dog")  # type: ignore[attr-defined]
    with model.listen(noise(1)) as clip:
        passes(model)
        plain = clip.ask(QUESTION, max_tokens=40)
        assert passes(model) == [PROMPT_TOKENS] + [1] * len(plain.tokens)
        assert clip.ask(QUESTION, max_tokens=40, draft=plain.text).tokens == plain.tokens
        assert passes(model) == [PROMPT_TOKENS, CHUNK, len(plain.tokens) - CHUNK]
        # As many as may follow are run and no more: the last one is never run.
        assert clip.ask(QUESTION, max_tokens=5, draft=plain.text).tokens == plain.tokens[:5]
        assert passes(model) == [PROMPT_TOKENS, 4]
        assert clip.ask(QUESTION, max_tokens=40, draft="a long tale").tokens == plain.tokens
        assert passes(model) == [PROMPT_TOKENS, len("a long tale")] + [1] * (len(plain.tokens) - len("a long "))
        # Two tokens that hold are not worth keeping as the batch computed them.
        assert clip.ask(QUESTION, max_tokens=40, draft="a zoo").tokens == plain.tokens
        assert passes(model) == [PROMPT_TOKENS, len("a zoo")] + [1] * len(plain.tokens)
        assert clip.ask(QUESTION, max_tokens=40, draft="no").tokens == plain.tokens
        assert passes(model) == [PROMPT_TOKENS] + [1] * len(plain.tokens)


def test_texts_stops_and_room_are_the_same_with_a_draft(model: Mellow) -> None:
    with model.listen(noise(1, seed=4)) as clip:
        for options in ({"max_tokens": 1}, {"max_tokens": 30}, {"max_tokens": 60}, {"stop": "a"}):
            plain = clip.ask(QUESTION, **options)
            for draft in (plain.text, plain.text + "!" * 80, "zebra", plain.text[:3]):
                drafted = clip.ask(QUESTION, draft=draft, **options)
                assert (drafted.text, drafted.tokens) == (plain.text, plain.tokens)
                assert drafted.finish_reason == plain.finish_reason


def test_sampling_ignores_a_draft(model: Mellow) -> None:
    with model.listen(noise(1)) as clip:
        plain = clip.ask(QUESTION, temperature=1.0, seed=3)
        passes(model)
        assert clip.ask(QUESTION, temperature=1.0, seed=3, draft=plain.text).tokens == plain.tokens
        assert max(passes(model)[1:]) == 1


def test_the_answer_about_one_window_is_the_draft_of_the_next(model: Mellow) -> None:
    model.reader.decoder.script = fakes.ids_of("rain")  # type: ignore[attr-defined]
    with model.listen(noise(2.5)) as clip:
        passes(model)
        answer = clip.ask(QUESTION)
        assert [window.text for window in answer.windows] == ["rain"] * 3
        assert passes(model) == [PROMPT_TOKENS, 1, 1, 1, 1] + [PROMPT_TOKENS, len("rain")] * 2


@pytest.mark.parametrize("draft", [None, 3, ["a"], "\ud800"])
def test_a_draft_that_is_no_text_is_an_error(clip: alm.Clip, draft: object) -> None:
    with pytest.raises(alm.PromptError, match="text"):
        clip.stream(QUESTION, draft=draft)  # type: ignore[arg-type]
