"""Questions about clips and their answers, written from templates. All text is lower case, as the model reads it.

Five kinds: `caption` names the sound; `choice` picks an option; `yes_no` and `entailment` judge a statement;
`difference` compares two clips. Answers are short and begin with what decides them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from alm_train.data.sounds import LABELS, SOUNDS


@dataclass(frozen=True)
class Question:
    """One question with its answer."""

    kind: str
    """Key of `KINDS`."""
    text: str
    """What is asked."""
    answer: str
    """What is to be answered, without the stop token."""
    asked: tuple[str, ...] = ()
    """Labels that the question speaks of: the options in order, or the sound of the statement."""
    unheard: bool = False
    """Whether its statement adds a detail that cannot be heard."""


@dataclass(frozen=True)
class Pair:
    """What sounds in the two audio slots."""

    first: str
    """Label of the first clip."""
    second: str
    """Label of the second clip; a question about one clip has the same clip in both slots."""
    others: tuple[str, ...] = LABELS
    """Labels that wrong options and false statements are drawn from."""


Maker = Callable[[np.random.Generator, Pair], Question]

CAPTION_PROMPTS = (
    "caption the audio.", "caption this audio.", "caption the clip.", "describe the audio.",
    "describe the sound.", "describe the scene.", "describe what you hear.", "what is happening?",
    "what is going on?", "what is happening in the audio?", "what is the sound?", "what sound is this?",
    "what sound is it?", "which sound is this?", "what do you hear?", "what can you hear?",
    "what can be heard?", "what can be heard in the audio?", "what is heard in the clip?", "name the sound.",
    "name the sound you hear.", "identify the sound.", "what is making the sound?", "what is this?",
    "what is in the audio?", "what does the audio contain?", "tell me what you hear.", "write a caption.",
    "what is that noise?", "what are you hearing?", "summarize the audio.", "generate a caption for the audio.",
)  # fmt: skip

CHOICE_STEMS = (
    "what is the sound?", "what sound is this?", "which sound is it?", "which sound is this?",
    "what do you hear?", "what is happening?", "what can be heard?", "what is the main sound?",
    "what is the primary sound event present in the clip?", "which of these do you hear?",
    "choose the right sound.", "which option fits the audio?", "what is making the sound?",
)  # fmt: skip

PRESENCE_STEMS = (
    "is there {phrase}?", "is there {phrase} in the audio?", "is there {phrase} in the clip?",
    "do you hear {phrase}?", "can you hear {phrase}?", "does the audio contain {phrase}?",
    "does this sound like {phrase}?", "is this {phrase}?", "is this the sound of {phrase}?",
    "is it true that {sentence}?", "is the sound {name}?", "{inverted}?", "{inverted} in the audio?",
)  # fmt: skip

PLAIN_PRESENCE = {
    "rain": ("is it raining?", "is there rain?"),
    "wind": ("is it windy?", "is there wind?"),
    "dog": ("is there a dog?", "is there a dog in the audio?"),
    "cat": ("is there a cat?", "is there a cat in the audio?"),
    "speech": ("is someone talking?", "is somebody speaking?", "is there speech?", "do you hear a voice?"),
    "crying_baby": ("is there a baby?", "is someone crying?"),
    "laughing": ("is someone laughing?",),
    "footsteps": ("is someone walking?", "are there footsteps?"),
    "coughing": ("is someone coughing?",),
    "snoring": ("is someone snoring?",),
    "chirping_birds": ("are there birds?", "is there a bird?"),
    "thunderstorm": ("is there a thunderstorm?", "is there thunder?"),
    "siren": ("is there a siren?",),
    "train": ("is there a train?",),
    "airplane": ("is there an airplane?",),
    "helicopter": ("is there a helicopter?",),
    "engine": ("is there an engine?",),
    "church_bells": ("are there bells?",),
    "crackling_fire": ("is there a fire?",),
    "silence": ("is it silent?", "is it quiet?"),
}

# Said about any sound, and never audible: what makes a statement plausible and not certain.
UNHEARD_DETAILS = (
    "at night", "on a monday", "in the summer", "near a school", "in another country", "for the first time",
    "while a friend watches", "next to a red car", "in the north", "before breakfast", "on a sunny day",
    "behind a tall wall",
)  # fmt: skip

ENTAILMENT_STEMS = (
    "does it follow that {statement}? answer yes, no or maybe.",
    "does the audio show that {statement}? answer yes, no or maybe.",
    "hypothesis: {statement}. does it follow from the audio? answer yes, no or maybe.",
)
ENTAILMENT_CHOICES = (
    "hypothesis: {statement}. the hypothesis is {options}",
    "is the hypothesis true? {statement}. {options}",
    "based on the audio, the statement {statement} is {options}",
)
VERDICTS = {"yes": "definitely true", "no": "definitely false", "maybe": "plausible"}

DIFFERENCE_PROMPTS = (
    "explain the difference in few words.", "explain the difference between the two audios in few words.",
    "explain the difference in a sentence.", "explain the difference in detail.", "explain the difference.",
    "what is the difference?", "what is the difference between the two clips?", "how do the clips differ?",
    "how do the two sounds differ?", "what differs between the two clips?", "compare the two clips.",
    "compare the two sounds.", "describe the difference between the two audios.", "what has changed?",
)  # fmt: skip


def make_question(kind: str, rng: np.random.Generator, pair: Pair) -> Question:
    """A question of `kind` about `pair`, its words and options drawn with `rng`."""
    return KINDS[kind](rng, pair)


def lettered(options: Sequence[str]) -> str:
    """`a) dog bark b) rain`, on one line as the model expects it."""
    return " ".join(f"{letter}) {option}" for letter, option in zip("abcdefgh", options, strict=False))


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _others(rng: np.random.Generator, pair: Pair, count: int) -> list[str]:
    candidates = [other for other in pair.others if other != pair.first]
    return [candidates[i] for i in rng.choice(len(candidates), count, replace=False)]


def inverted(sentence: str) -> str:
    """`a dog is barking` to `is a dog barking`; `there is silence` to `is there silence`."""
    words = sentence.split()
    verb = next(word for word in words if word in ("is", "are"))
    words.remove(verb)
    return " ".join((verb, *words))


def _caption(rng: np.random.Generator, pair: Pair) -> Question:
    return Question("caption", _pick(rng, CAPTION_PROMPTS), f"{SOUNDS[pair.first].sentence}.")


def _choice(rng: np.random.Generator, pair: Pair, counts: Sequence[int] = (2, 3, 4, 4, 4, 4, 5)) -> Question:
    labels = [pair.first, *_others(rng, pair, int(rng.choice(counts)) - 1)]
    form = "name" if rng.random() < 0.7 else "phrase"
    asked = tuple(labels[i] for i in rng.permutation(len(labels)))
    options = [getattr(SOUNDS[label], form) for label in asked]
    right = asked.index(pair.first)
    text = f"{_pick(rng, CHOICE_STEMS)} {lettered(options)}"
    return Question("choice", text, f"{'abcdefgh'[right]}) {options[right]}", asked)


def choice_of_four(rng: np.random.Generator, pair: Pair) -> Question:
    """A multiple-choice question with exactly four options, as it is scored."""
    return _choice(rng, pair, counts=(4,))


def _yes_no(rng: np.random.Generator, pair: Pair) -> Question:
    true = rng.random() < 0.5
    asked = pair.first if true else _others(rng, pair, 1)[0]
    sound = SOUNDS[asked]
    if asked in PLAIN_PRESENCE and rng.random() < 0.4:
        text = _pick(rng, PLAIN_PRESENCE[asked])
    else:
        text = _pick(rng, PRESENCE_STEMS).format(
            name=sound.name, phrase=sound.phrase, sentence=sound.sentence, inverted=inverted(sound.sentence)
        )
    ending = _pick(rng, ("", "", "", " answer yes or no", " yes or no?"))
    return Question("yes_no", text + ending, "yes" if true else "no", (asked,))


def _entailment(rng: np.random.Generator, pair: Pair) -> Question:
    verdict = _pick(rng, tuple(VERDICTS))
    spoken_of = _others(rng, pair, 1)[0] if verdict == "no" else pair.first
    statement = SOUNDS[spoken_of].sentence
    # Half of the false statements have the detail too, so that the words alone give nothing away.
    unheard = verdict == "maybe" or (verdict == "no" and rng.random() < 0.5)
    if unheard:
        statement = f"{statement} {_pick(rng, UNHEARD_DETAILS)}"
    if rng.random() < 0.5:
        return Question(
            "entailment", _pick(rng, ENTAILMENT_STEMS).format(statement=statement), verdict, (spoken_of,), unheard
        )
    keys = [tuple(VERDICTS)[i] for i in rng.permutation(len(VERDICTS))]
    options = lettered([VERDICTS[key] for key in keys])
    text = _pick(rng, ENTAILMENT_CHOICES).format(statement=statement, options=options)
    return Question("entailment", text, f"{'abc'[keys.index(verdict)]}) {VERDICTS[verdict]}", (spoken_of,), unheard)


def _difference(rng: np.random.Generator, pair: Pair) -> Question:
    first, second = SOUNDS[pair.first], SOUNDS[pair.second]
    answer = (
        f"both are {first.phrase}."
        if pair.first == pair.second
        else f"the first is {first.phrase}, the second is {second.phrase}."
    )
    return Question("difference", _pick(rng, DIFFERENCE_PROMPTS), answer)


KINDS: dict[str, Maker] = {
    "caption": _caption,
    "choice": _choice,
    "yes_no": _yes_no,
    "entailment": _entailment,
    "difference": _difference,
}
TWO_CLIPS = frozenset({"difference"})
