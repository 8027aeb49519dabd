"""Templated questions, their answers and how answers are scored."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alm_train.answering.scoring import is_right
from alm_train.data.questions import KINDS, TWO_CLIPS, VERDICTS, Pair, choice_of_four, make_question
from alm_train.data.sounds import LABELS, SOUNDS

pairs = st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS))


def _question(kind: str, seed: int, first: str, second: str):
    pair = Pair(first, second if kind in TWO_CLIPS else first)
    return make_question(kind, np.random.default_rng(seed), pair), pair


@given(kind=st.sampled_from(tuple(KINDS)), seed=st.integers(0, 10**6), labels=pairs)
def test_every_question_is_clean_text_and_its_own_answer_is_right(kind, seed, labels) -> None:
    question, pair = _question(kind, seed, *labels)
    assert question.kind == kind
    for text in (question.text, question.answer):
        assert text == text.lower().strip() and "  " not in text and "{" not in text and "!" not in text
    assert is_right(question, pair, question.answer)
    assert not is_right(question, pair, "") and not is_right(question, pair, "nonsense")


@given(seed=st.integers(0, 10**6), label=st.sampled_from(LABELS))
def test_options_are_distinct_and_the_letter_points_at_the_sound(seed, label) -> None:
    question = choice_of_four(np.random.default_rng(seed), Pair(label, label))
    options = dict(re.findall(r"([a-h])\) (.+?)(?= [a-h]\) |$)", question.text))
    assert len(options) == 4 and len(set(options.values())) == 4
    letter, words = question.answer.split(") ")
    assert options[letter] == words
    assert words in (SOUNDS[label].name, SOUNDS[label].phrase)
    assert question.asked["abcd".index(letter)] == label


@given(seed=st.integers(0, 10**6), label=st.sampled_from(LABELS))
def test_statements_speak_of_the_sound_exactly_when_they_are_not_false(seed, label) -> None:
    for kind in ("yes_no", "entailment"):
        question, _ = _question(kind, seed, label, label)
        false = question.answer == "no" or VERDICTS["no"] in question.answer
        assert (question.asked[0] == label) is not false


def test_yes_and_no_come_equally_often() -> None:
    answers = [_question("yes_no", seed, "dog", "dog")[0].answer for seed in range(2000)]
    assert set(answers) == {"yes", "no"}
    assert 900 < answers.count("yes") < 1100


def test_the_right_letter_is_in_every_place_equally_often() -> None:
    pair = Pair("dog", "dog")
    letters = [choice_of_four(np.random.default_rng(seed), pair).answer[0] for seed in range(2000)]
    assert all(420 < letters.count(letter) < 580 for letter in "abcd")


def test_an_unheard_detail_does_not_give_the_verdict_away() -> None:
    questions = [_question("entailment", seed, "dog", "dog")[0] for seed in range(600)]
    false = [q for q in questions if q.answer == "no" or VERDICTS["no"] in q.answer]
    assert 0.3 < sum(q.unheard for q in false) / len(false) < 0.7


def test_wrong_options_come_from_the_sounds_that_are_allowed() -> None:
    allowed = ("dog", "cat", "rain", "wind", "cow")
    for seed in range(50):
        question = choice_of_four(np.random.default_rng(seed), Pair("dog", "dog", allowed))
        assert set(question.asked) <= set(allowed)


@pytest.mark.parametrize(
    ("kind", "answer", "right"),
    [
        ("caption", "A dog is barking.", True),
        ("caption", "a dog is barking and rain is falling.", False),
        ("caption", "a cat is meowing.", False),
        ("difference", "the first is a dog barking, the second is rain falling.", True),
        ("difference", "the first is rain falling, the second is a dog barking.", False),
        ("difference", "a dog barking and rain falling", False),
        ("difference", "both are a dog barking.", False),
    ],
)
def test_scoring(kind: str, answer: str, right: bool) -> None:
    question, pair = _question(kind, 0, "dog", "rain")
    assert is_right(question, pair, answer) is right


def test_only_the_letter_of_a_choice_counts() -> None:
    pair = Pair("dog", "dog")
    question = choice_of_four(np.random.default_rng(1), pair)
    letter = question.answer[0]
    other = next(x for x in "abcd" if x != letter)
    assert is_right(question, pair, f"{letter})") and is_right(question, pair, f"{letter.upper()}) whatever")
    assert not is_right(question, pair, question.answer.replace(f"{letter})", f"{other})"))
