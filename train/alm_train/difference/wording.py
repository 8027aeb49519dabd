"""Prompts and answers about two clips, written from templates.

Six tasks: the authors' three lengths of a difference and their three position captions. All text is lower case; the
tokenizer lowers the case of what it is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from alm_train.data.sounds import SOUNDS, Sound, sound_named_in
from alm_train.difference.character import Character, comparison

AUDIOS = ("audio", "audios", "clips", "sounds", "recordings", "audio clips")
STEMS = (
    "explain the difference between the two {}", "explain the difference between the {}",
    "explain the differences between the two {}", "explain how the two {} differ", "explain the difference",
    "describe the difference between the two {}", "describe how the {} differ", "describe the difference",
    "what is the difference between the two {}", "what is the difference between these {}", "what is the difference",
    "what differs between the two {}", "how do the two {} differ", "how are the two {} different",
    "compare the two {}", "compare these {}", "tell me the difference between the two {}",
    "tell me what differs between the {}", "state the difference between the two {}",
    "summarize the difference between the two {}", "contrast the two {}", "what has changed between the two {}",
)  # fmt: skip
UNSEEN_STEMS = ("in what way do the two {} differ", "point out the difference between the two {}", "compare both {}")
"""Wordings kept out of training, to see whether nearby ones are understood."""
LENGTHS = {
    "words": ("in few words", "in a few words", "in few words", "briefly", "in short", "in brief", ""),
    "sentence": ("in one extended sentence", "in an extended sentence", "in one sentence", "in a sentence",
                 "in one long sentence"),
    "detail": ("in detail", "in detail", "in great detail", "in more detail", "at length", "in depth", "in full"),
}  # fmt: skip
"""Endings that ask for a length; without one the answer is short."""
ONES = ("audio", "clip", "sound", "recording", "audio clip")
PLACE_STEMS = (
    "caption the {} {}", "caption {} {}", "describe the {} {}", "write a caption for the {} {}",
    "what is heard in the {} {}", "what do you hear in the {} {}", "what is the {} {}", "what is in the {} {}",
    "what is happening in the {} {}", "name the {} {}", "generate a caption for the {} {}", "identify the {} {}",
)  # fmt: skip
BOTH_STEMS = (
    "caption both the {}", "caption both {}", "caption the two {}", "caption each of the two {}",
    "describe both {}", "describe both the {}", "describe the two {}", "describe each of the {}",
    "write a caption for both {}", "what is heard in both {}", "what is heard in the two {}", "name both {}",
    "what is in both {}", "generate captions for both {}", "what are the two {}",
)  # fmt: skip
GROUPS = {
    "animal": "an animal sound", "human": "a human sound", "nature": "a sound of nature",
    "household": "a household sound", "machine": "a machine sound", "synthetic": "an electronic sound",
}  # fmt: skip


@dataclass(frozen=True)
class Heard:
    """What sounds in one slot, and how."""

    label: str
    """Key of `SOUNDS`."""
    character: Character
    """What was measured of the clip."""

    @property
    def sound(self) -> Sound:
        """The words for it."""
        return SOUNDS[self.label]


def prompt(task: str, rng: np.random.Generator, stems: Sequence[str] = STEMS) -> str:
    """A wording of a task of `TASKS`; `stems` are those of the differences."""
    if task in LENGTHS:
        text = f"{_pick(rng, stems).format(_pick(rng, AUDIOS))} {_pick(rng, LENGTHS[task])}".rstrip()
    elif task == "both":
        text = _pick(rng, BOTH_STEMS).format(_pick(rng, AUDIOS[1:]))
    else:
        text = _pick(rng, PLACE_STEMS).format(task, _pick(rng, ONES))
    return text + _pick(rng, ("", "", ".", "?" if text.startswith(("what", "how")) else "."))


def answer(task: str, first: Heard, second: Heard) -> str:
    """What is to be answered, without the stop token."""
    return TASKS[task](first, second)


def is_right(task: str, first: str, second: str, text: str) -> bool:
    """Whether `text` has the shape of its task and names the labels that it asks for, each in its slot."""
    if not re.match(SHAPES[task], text):
        return False
    if task in ("first", "second"):
        return sound_named_in(text) == (first if task == "first" else second)
    return named_slots(text) == (first, second)


def named_slots(text: str) -> tuple[str | None, str | None]:
    """Labels that a text about both clips names for each; None where it names none, or several.

    What stands before the first `second` is about the first clip; where it says `both`, it is about both.
    """
    before, _, after = text.partition("second")
    if re.search(r"\bboth\b", before):
        return sound_named_in(before), sound_named_in(before)
    return sound_named_in(before), sound_named_in(after)


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _words(first: Heard, second: Heard) -> str:
    if first.label == second.label:
        return f"both are {first.sound.phrase}."
    return f"the first is {first.sound.phrase}, the second is {second.sound.phrase}."


def _sentence(first: Heard, second: Heard) -> str:
    compared = _compared(first, second)
    if first.label == second.label:
        tail = f", and the second is {compared}" if compared else ""
        return f"both audios are {first.sound.phrase}{tail}."
    tail = f", which is {compared}" if compared else ""
    return f"the first audio is {first.sound.phrase}, while the second is {second.sound.phrase}{tail}."


def _detail(first: Heard, second: Heard) -> str:
    one, two = (f"{heard.sound.phrase}: {_described(heard)}" for heard in (first, second))
    compared = _compared(first, second)
    tail = f" the second is {compared}." if compared else ""
    return f"the first audio is {one}. the second audio is {two}.{tail}"


def _described(heard: Heard) -> str:
    if heard.character.silent:
        return "nothing is heard"
    character = heard.character
    return f"{GROUPS[heard.sound.category]} of {character.pitch_word} pitch that {character.course}"


def _compared(first: Heard, second: Heard) -> str:
    """What follows `the second is`; nothing where one of them cannot be measured."""
    if first.character.silent or second.character.silent:
        return ""
    return " and ".join(comparison(first.character, second.character)) or "of much the same pitch and evenness"


def _both(first: Heard, second: Heard) -> str:
    return f"in the first audio, {first.sound.sentence}. in the second audio, {second.sound.sentence}."


TASKS: dict[str, Callable[[Heard, Heard], str]] = {
    "words": _words,
    "sentence": _sentence,
    "detail": _detail,
    "first": lambda first, second: f"{first.sound.sentence}.",
    "second": lambda first, second: f"{second.sound.sentence}.",
    "both": _both,
}
"""What answers each task."""
SHAPES = {
    "words": r"the first is |both are ",
    "sentence": r"the first audio is .+, while |both audios are ",
    "detail": r"the first audio is .+\. the second audio is ",
    "first": r"(?!.*\b(first|second|both)\b)",
    "second": r"(?!.*\b(first|second|both)\b)",
    "both": r"in the first audio, ",
}
"""How an answer to each task begins: an answer to another task is none."""
OFFICIAL = {
    "words": "explain the difference between the two audio in few words",
    "sentence": "explain the difference between the two audio in one extended sentence",
    "detail": "explain the difference between the two audio in detail",
    "first": "caption the first audio",
    "second": "caption the second audio",
    "both": "caption both the audios",
}
"""The authors' prompts (soham97/ADIFF)."""
