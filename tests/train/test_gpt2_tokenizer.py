"""The bundled GPT-2 tokenizer gives the ids that the authors' code gave (microsoft/CLAP, soham97/ADIFF)."""

from __future__ import annotations

from importlib.resources import files

import pytest
from tokenizers import Tokenizer

from alm_train.models.clap import SUFFIX

IDS = {
    "": [220, 50256],
    "this is the sound of dog": [5661, 318, 262, 2128, 286, 3290, 220, 50256],
    "the sound is clear and clean.": [1169, 2128, 318, 1598, 290, 3424, 13, 220, 50256],
    "the sound is noisy and with artifacts.": [1169, 2128, 318, 31210, 290, 351, 20316, 13, 220, 50256],
    "explain the difference between the two audio in detail": [
        20676, 391, 262, 3580, 1022, 262, 734, 6597, 287, 3703, 220, 50256,
    ],
    "caption the first audio": [6888, 1159, 262, 717, 6597, 220, 50256],
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_str((files("alm_train") / "tokenizers" / "gpt2.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("text", IDS)
def test_ids(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text + SUFFIX, add_special_tokens=False).ids
    assert ids == IDS[text]
    assert tokenizer.decode(ids, skip_special_tokens=False) == text + SUFFIX


def test_the_pad_token_is_an_exclamation_mark(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_to_id("!") == 0
    assert tokenizer.encode("stop!", add_special_tokens=False).ids[-1] == 0
