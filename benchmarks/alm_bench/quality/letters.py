"""When an answer in words is right: the official rules, one per kind of question.

Source: the authors' scoring code (mellow, branch `training`).
"""

from __future__ import annotations

import re
from collections.abc import Callable


def prefix(text: str) -> str:
    """What stands before the first bracket, lower case: `b` of `b) rain`."""
    return text.split(")")[0].strip().lower()


def letter(text: str) -> str:
    """The letter that an answer begins with. The official rule for anything else is `a`."""
    return prefix(text) if is_lettered(text) else "a"


def is_lettered(text: str) -> bool:
    """Whether an answer begins with one of the letters a to d and a bracket, as it was asked to."""
    return re.fullmatch("[a-d]", prefix(text)) is not None and ")" in text


RULES: dict[str, Callable[[str, str], bool]] = {
    "letter": lambda said, right: letter(said) == prefix(right),
    "mmau": lambda said, right: prefix(said) == prefix(right),
    "word": lambda said, right: right.strip().lower() in said.lower(),
}
"""By rule: answer and right answer, to whether they agree."""
