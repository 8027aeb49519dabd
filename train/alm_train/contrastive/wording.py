"""The words under which the kinds of sound of the training clips are shown to the text tower."""

from __future__ import annotations

from collections.abc import Sequence

from alm_train.data.sounds import SOUNDS

TEMPLATES = (
    "this is the sound of {}",
    "this is a sound of {}",
    "the sound of {}",
    "{}",
    "{} in the distance",
    "i can hear {}",
)


def class_prompt(label: str) -> str:
    """What zero-shot classification asks: the wording of the CLAP authors with the class name as it is written."""
    return TEMPLATES[0].format(label.replace("_", " "))


def label_texts(label: str) -> tuple[str, ...]:
    """Every wording of one kind of sound, `class_prompt` first."""
    sound = SOUNDS[label]
    names = dict.fromkeys((label.replace("_", " "), sound.name, sound.phrase))
    return (*(template.format(name) for template in TEMPLATES for name in names), sound.sentence)


def held_out_labels(groups: dict[str, Sequence[str]], per_group: int) -> tuple[str, ...]:
    """The first `per_group` classes of every group in alphabetical order: a rule that looks at no result."""
    return tuple(label for group in sorted(groups) for label in sorted(groups[group])[:per_group])
