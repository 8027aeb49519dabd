"""What is said about pairs of held-out recordings: both sounds in their slots, and comparisons that are true."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from alm_train.answering.learning import Answerer, Asked, answer_all
from alm_train.answering.learning import Heard as FullyHeard
from alm_train.answering.scoring import is_right as mellow_is_right
from alm_train.baselines import cepstral_posteriors
from alm_train.contrastive.evaluate import Share, share
from alm_train.data.library import Library
from alm_train.data.questions import Pair, Question
from alm_train.data.sounds import LABELS
from alm_train.difference.learning import Ears, Explainer, Lesson, explain
from alm_train.difference.wording import LENGTHS, OFFICIAL, TASKS, UNSEEN_STEMS, is_right, prompt
from alm_train.loop import Metrics, Validate

DIRECTIONS = {"higher": ("pitch", 1), "lower": ("pitch", -1), "less even": ("swing", 1), "more even": ("swing", -1)}
"""What a comparison says of a measure of the second clip less that of the first."""
MELLOW_PROMPT = "explain the difference between the two audios in few words."
MELLOW_TOKENS = 32
EXAMPLES = 12
WATCHED = 3
"""One pair in so many is asked about in validation."""


@dataclass(frozen=True)
class TaskScore:
    """One task, asked about every held-out clip beside one of another kind."""

    task: str
    """Key of `TASKS`."""
    wording: str
    """`official` prompts, or `unseen` ones that were not trained on."""
    model: Share
    """Answers that have the shape of their task and name what it asks for, each sound in its slot."""
    svm: Share
    """Pairs that a support vector machine on cepstral statistics of the same training clips names likewise."""
    chance: float
    """Expected share of a guess among the labels of the held-out clips."""


@dataclass(frozen=True)
class Results:
    """Everything that is measured."""

    tasks: tuple[TaskScore, ...]
    """Every task with the authors' prompts, and differences with unseen ones."""
    mellow: Share
    """The Mellow whose audio encoder is used, on the same pairs, asked for the difference in few words."""
    compared: Share | None
    """Statements `higher`, `lower`, `more even`, `less even` that are true of the two clips as measured; None when no
    answer makes one."""
    examples: tuple[tuple[str, str, str], ...]
    """Labels of the two clips and the answer, the tasks in turn."""

    def to_json(self) -> str:
        """As stored beside the weights."""
        return json.dumps(asdict(self), indent=1) + "\n"


def pair_up(ears: Ears, seed: int) -> NDArray[np.int64]:
    """(clips, 2): every clip beside a random one of another label."""
    rng = np.random.default_rng(seed)
    labels = np.array([clip.label for clip in ears.clips])
    others = [rng.choice(np.flatnonzero(labels != label)) for label in labels]
    return np.stack((np.arange(len(labels)), others), 1).astype(np.int64)


def difference_validation(ears: Ears, seed: int) -> Validate[Explainer]:
    """Share of right answers per task on some held-out pairs, for the log."""
    slots = pair_up(ears, seed)[::WATCHED]

    def validate(module: Explainer) -> Metrics:
        return {
            f"right_{task}": float(np.mean(_right(ears, slots, task, _asked(module, ears, slots, task, [text]))))
            for task, text in OFFICIAL.items()
        }

    return validate


def evaluate_difference(
    module: Explainer, ears: Ears, mellow: Answerer, heard: FullyHeard, trained: Library, held_out: Library, seed: int
) -> Results:
    """Score `module` on pairs of the clips of `held_out`, which `ears` and `heard` hold in the same order."""
    slots = pair_up(ears, seed)
    rng = np.random.default_rng(seed)
    said = {task: _asked(module, ears, slots, task, [text]) for task, text in OFFICIAL.items()}
    unseen = {task: [prompt(task, rng, UNSEEN_STEMS) for _ in slots] for task in LENGTHS}
    posteriors = cepstral_posteriors(trained, held_out)
    guessed = [LABELS[place] for place in posteriors.argmax(1)]
    scores = [_score(ears, slots, task, "official", texts, guessed) for task, texts in said.items()]
    scores += [
        _score(ears, slots, task, "unseen", _asked(module, ears, slots, task, prompts), guessed)
        for task, prompts in unseen.items()
    ]
    compared = _comparisons(ears, slots, (*said["sentence"], *said["detail"]))
    return Results(
        tasks=tuple(scores),
        mellow=_mellow(mellow, heard, slots),
        compared=share(np.array(compared)) if compared else None,
        examples=_examples(ears, slots, said),
    )


def _asked(module: Explainer, ears: Ears, slots: NDArray[np.int64], task: str, prompts: Sequence[str]) -> list[str]:
    texts = tuple(prompts) if len(prompts) == len(slots) else tuple(prompts) * len(slots)
    return explain(module, ears, Lesson(np.zeros_like(slots), slots, (task,) * len(slots), texts))


def _right(ears: Ears, slots: NDArray[np.int64], task: str, texts: Sequence[str]) -> NDArray[np.bool_]:
    pairs = ((ears.clips[one].label, ears.clips[two].label) for one, two in slots)
    return np.array([is_right(task, *pair, text) for pair, text in zip(pairs, texts, strict=True)])


def _score(
    ears: Ears, slots: NDArray[np.int64], task: str, wording: str, texts: Sequence[str], guessed: Sequence[str]
) -> TaskScore:
    hits = np.array([guess == clip.label for guess, clip in zip(guessed, ears.clips, strict=True)])
    asked = {"first": [0], "second": [1]}.get(task, [0, 1])
    labels = len({clip.label for clip in ears.clips})
    return TaskScore(
        task=task,
        wording=wording,
        model=share(_right(ears, slots, task, texts)),
        svm=share(hits[slots[:, asked]].all(1)),
        chance=float(labels) ** -len(asked),
    )


def _mellow(mellow: Answerer, heard: FullyHeard, slots: NDArray[np.int64]) -> Share:
    first, second = (torch.from_numpy(slots[:, place].copy()) for place in (0, 1))
    question, plain = Question("difference", MELLOW_PROMPT, ""), torch.zeros_like(first)
    asked = Asked((plain, first), (plain, second), (question,) * len(slots))
    texts = answer_all(mellow.eval(), heard, asked, MELLOW_TOKENS)
    pairs = (Pair(heard.labels[one], heard.labels[two]) for one, two in slots)
    return share(np.array([mellow_is_right(question, pair, text) for pair, text in zip(pairs, texts, strict=True)]))


def _comparisons(ears: Ears, slots: NDArray[np.int64], texts: Sequence[str]) -> list[bool]:
    """Whether each statement of `texts`, which tell of `slots` again and again, is true of its clips."""
    truths = []
    for index, text in enumerate(texts):
        first, second = (ears.clips[place].character for place in slots[index % len(slots)])
        for words, (measure, sign) in DIRECTIONS.items():
            if re.search(rf"\b{words}\b", text):
                truths.append(sign * (getattr(second, measure) - getattr(first, measure)) > 0)
    return truths


def _examples(ears: Ears, slots: NDArray[np.int64], said: dict[str, list[str]]) -> tuple[tuple[str, str, str], ...]:
    tasks = tuple(TASKS)
    found = []
    for number, row in enumerate(np.linspace(0, len(slots) - 1, min(EXAMPLES, len(slots))).astype(int)):
        one, two = (ears.clips[place].label for place in slots[row])
        found.append((one, two, said[tasks[number % len(tasks)]][row]))
    return tuple(found)
