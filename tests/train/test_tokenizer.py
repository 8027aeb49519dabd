"""The reference model's own tokenizer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from alm_train.tokenizer import PAD, STOP, pad_id, template_texts, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(template_texts(600, seed=1), 600)


@given(text=st.text())
def test_any_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    kept = text.replace(PAD, "").replace(STOP, "")
    ids = tokenizer.encode(kept).ids
    assert all(0 <= i < tokenizer.get_vocab_size() for i in ids)
    assert tokenizer.decode(ids) == kept


def test_special_tokens_have_their_places(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_to_id(STOP) == 0
    assert pad_id(tokenizer) == 1
    assert tokenizer.encode(PAD * 3).ids == [1, 1, 1]


def test_training_is_repeatable() -> None:
    first, again = (train_tokenizer(template_texts(300, seed=1), 500).to_str() for _ in range(2))
    assert first == again
