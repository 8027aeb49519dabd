"""Questions on their way to the model: lower case, padding, limits."""

from __future__ import annotations

import dataclasses
import json

import pytest
from fakes import PAD, PROMPT_TOKENS, STOP, VOCABULARY, ids_of, manifest, tokenizer
from hypothesis import given
from hypothesis import strategies as st

import alm
from alm.errors import PackageError, PromptError
from alm.texts.prompt import PromptTokenizer

LAYOUT = manifest().prompt
JSON = tokenizer().to_str().encode()
PROMPTS = PromptTokenizer(JSON, LAYOUT, VOCABULARY)


def test_lower_cased_and_padded_on_the_right() -> None:
    found = PROMPTS.prompt("What IS it?")
    assert found.dtype == "int64"
    assert found.tolist() == ids_of("what is it?") + [PAD] * (PROMPT_TOKENS - 11)


def test_case_is_kept_when_the_package_says_so() -> None:
    kept = PromptTokenizer(JSON, dataclasses.replace(LAYOUT, lowercase=False), VOCABULARY)
    assert kept.ids("What") == ids_of("What")


def test_each_exclamation_mark_becomes_a_pad_even_where_a_merge_exists() -> None:
    merged = json.loads(JSON)
    merged["model"]["vocab"]["!!"] = VOCABULARY
    merged["model"]["merges"] = [["!", "!"]]
    prompts = PromptTokenizer(json.dumps(merged).encode(), LAYOUT, VOCABULARY + 1)
    assert prompts.ids("a!!b") == [*ids_of("a"), PAD, PAD, *ids_of("b")]


def test_padding_and_truncation_of_the_file_do_not_count() -> None:
    meddling = tokenizer()
    meddling.enable_truncation(3)
    meddling.enable_padding(length=9)
    prompts = PromptTokenizer(meddling.to_str().encode(), LAYOUT, VOCABULARY)
    assert prompts.ids("abcdef") == ids_of("abcdef")


def test_written_special_tokens_count_as_such() -> None:
    assert PROMPTS.ids("a<|endoftext|>") == [*ids_of("a"), STOP]


@pytest.mark.parametrize("question", ["", " \n\t", "!!!"])
def test_empty_questions(question: str) -> None:
    with pytest.raises(PromptError, match="is empty to the model"):
        PROMPTS.prompt(question)


def test_a_question_of_exactly_the_limit_passes() -> None:
    assert PROMPTS.prompt("x" * PROMPT_TOKENS).tolist() == ids_of("x" * PROMPT_TOKENS)


def test_too_long_names_the_limit_and_the_count() -> None:
    question = "y" * (PROMPT_TOKENS + 1)
    with pytest.raises(PromptError, match=rf"has {PROMPT_TOKENS + 1} tokens; the limit .* is {PROMPT_TOKENS}.*"):
        PROMPTS.prompt(question)
    assert PROMPTS.prompt(question, truncate=True).tolist() == ids_of("y" * PROMPT_TOKENS)


@given(st.text(max_size=60))
def test_any_text_gives_a_prompt_or_a_prompt_error(question: str) -> None:
    try:
        found = PROMPTS.prompt(question)
    except PromptError:
        return
    assert found.shape == (PROMPT_TOKENS,)
    assert found.max() < VOCABULARY


def test_other_scripts_pass() -> None:
    assert PROMPTS.ids("ça va, 猫?") == ids_of("ça va, 猫?")


def test_half_a_surrogate_pair_and_what_is_not_text() -> None:
    with pytest.raises(PromptError, match="not valid Unicode"):
        PROMPTS.prompt("a\ud800")
    with pytest.raises(PromptError, match="expected text, got int"):
        PROMPTS.ids(3)  # type: ignore[arg-type]


def test_what_is_no_tokenizer() -> None:
    with pytest.raises(PackageError, match=r"tokenizer\.json is not a tokenizer"):
        PromptTokenizer(b"{}", LAYOUT, VOCABULARY)


def test_a_tokenizer_that_does_not_fit_the_model() -> None:
    with pytest.raises(PackageError, match=f"{VOCABULARY} tokens, the decoder knows {VOCABULARY - 1}"):
        PromptTokenizer(JSON, LAYOUT, VOCABULARY - 1)
    with pytest.raises(PackageError, match="pad_id is 900"):
        PromptTokenizer(JSON, dataclasses.replace(LAYOUT, pad_id=900), 1000)


def test_a_session_refuses_before_it_works(clip: alm.Clip) -> None:
    with pytest.raises(PromptError):
        clip.stream("")
    assert clip.ask("z" * 100, truncate=True).tokens == clip.ask("z" * PROMPT_TOKENS).tokens
