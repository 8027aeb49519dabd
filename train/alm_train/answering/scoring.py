"""Whether an answer is right: one rule per kind of question.

Source of the letter rule and the yes/no rule: the authors' evaluation (soham97/mellow, branch `training`), where what
stands before the first `)` decides a choice.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from alm_train.data.questions import Pair, Question
from alm_train.data.sounds import sound_named_in


def is_right(question: Question, pair: Pair, answer: str) -> bool:
    """Whether `answer` answers `question` about `pair`."""
    return _RULES[question.kind](question, pair, answer.strip().lower())


def _names_the_sound(question: Question, pair: Pair, answer: str) -> bool:
    return sound_named_in(answer) == pair.first


def _same_letter(question: Question, pair: Pair, answer: str) -> bool:
    return answer.split(")")[0] == question.answer.split(")")[0]


def _same_words(question: Question, pair: Pair, answer: str) -> bool:
    return answer.rstrip(".") == question.answer


def _judgement(question: Question, pair: Pair, answer: str) -> bool:
    return (_same_letter if ")" in question.answer else _same_words)(question, pair, answer)


def _names_both(question: Question, pair: Pair, answer: str) -> bool:
    """Both sounds named, each with its clip."""
    apart = re.fullmatch(r"the first is (.+), the second is (.+?)\.?", answer)
    named = apart.groups() if apart else (answer, answer) if answer.startswith("both are ") else ()
    return tuple(map(sound_named_in, named)) == (pair.first, pair.second)


_RULES: dict[str, Callable[[Question, Pair, str], bool]] = {
    "caption": _names_the_sound,
    "choice": _same_letter,
    "yes_no": _same_words,
    "entailment": _judgement,
    "difference": _names_both,
}
