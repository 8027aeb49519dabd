"""Accuracy per question type on held-out clips, with intervals, beside two baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table

from alm_train.answering.learning import Answerer, Asked, Heard, answer_all, ask
from alm_train.answering.scoring import is_right
from alm_train.baselines import Posterior, cepstral_posteriors, form, majority_answers
from alm_train.data.library import Library
from alm_train.data.questions import KINDS, TWO_CLIPS, Pair, Question, choice_of_four, make_question
from alm_train.data.sounds import LABELS
from alm_train.loop import Metrics, Validate

RESAMPLES = 2000


@dataclass(frozen=True)
class Score:
    """How often one kind of question was answered rightly."""

    kind: str
    """Key of `KINDS`."""
    answerer: str
    """`model`, `majority` or `svm`."""
    right: int
    """Right answers."""
    questions: int
    """Questions asked."""
    clips: int
    """Held-out clips they were asked about."""
    low: float
    """Lower end of the 95 % interval of the accuracy."""
    high: float
    """Upper end."""

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return self.right / self.questions


@dataclass(frozen=True)
class Exam:
    """Questions about the clips of one corpus, the same for every answerer."""

    questions: tuple[Question, ...]
    """What is asked."""
    pairs: tuple[Pair, ...]
    """What sounds in the two slots."""
    slots: NDArray[np.int64]
    """(questions, 2) clips of the two slots."""


def write_exam(library: Library, corpus: str, rounds: int, seed: int) -> Exam:
    """Ask every clip of `corpus` every kind of question `rounds` times.

    Wrong options and statements are about sounds of the same corpus, half of the yes/no questions are true,
    and every multiple choice has four options.
    """
    rng = np.random.default_rng(seed)
    members = [i for i, clip in enumerate(library.clips) if clip.corpus == corpus]
    sounds = {library.clips[i].label for i in members}
    others = tuple(label for label in LABELS if label in sounds) if len(sounds) > 4 else LABELS
    questions, pairs, slots = [], [], []
    for _ in range(rounds):
        for clip in members:
            for kind in KINDS:
                other = _partner(rng, library, members, clip) if kind in TWO_CLIPS else clip
                if kind in TWO_CLIPS and len(sounds) == 1:
                    continue
                pair = Pair(library.clips[clip].label, library.clips[other].label, others)
                questions.append(choice_of_four(rng, pair) if kind == "choice" else make_question(kind, rng, pair))
                pairs.append(pair)
                slots.append((clip, other))
    return Exam(tuple(questions), tuple(pairs), np.array(slots))


def _partner(rng: np.random.Generator, library: Library, members: Sequence[int], clip: int) -> int:
    different = [i for i in members if library.clips[i].label != library.clips[clip].label]
    return int(rng.choice(different)) if different else clip


def take_exam(exam: Exam, answerer: str, answers: Sequence[str]) -> list[Score]:
    """Score the answers per kind; the interval is a bootstrap over clips, since one clip is asked repeatedly."""
    rights = np.array(
        [is_right(q, p, a) for q, p, a in zip(exam.questions, exam.pairs, answers, strict=True)], dtype=float
    )
    kinds = np.array([q.kind for q in exam.questions])
    scores = []
    for kind in KINDS:
        chosen = kinds == kind
        if not chosen.any():
            continue
        right, clips = rights[chosen], exam.slots[chosen, 0]
        low, high = bootstrap_interval(right, clips)
        scores.append(Score(kind, answerer, int(right.sum()), len(right), len(set(clips.tolist())), low, high))
    return scores


def bootstrap_interval(right: NDArray[np.float64], clips: NDArray[np.int64]) -> tuple[float, float]:
    """95 % interval of the mean of `right`, drawing whole clips with replacement."""
    _, place = np.unique(clips, return_inverse=True)
    sums, counts = np.bincount(place, right), np.bincount(place)
    drawn = np.random.default_rng(0).integers(len(sums), size=(RESAMPLES, len(sums)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def answering_validation(heard: Heard, held_out: Library, seed: int, longest: int) -> Validate[Answerer]:
    """Accuracy per kind on one question in three about the held-out ESC-50 clips, for the log."""
    exam = write_exam(held_out, "esc50", 1, seed)
    chosen = range(0, len(exam.questions), 3)  # five kinds take turns, so that each is met
    part = Exam(
        tuple(exam.questions[i] for i in chosen), tuple(exam.pairs[i] for i in chosen), exam.slots[list(chosen)]
    )

    def validate(module: Answerer) -> Metrics:
        scores = take_exam(part, "model", answer_all(module, heard, _asked(part), longest))
        return {f"right_{score.kind}": score.accuracy for score in scores}

    return validate


def evaluate(
    module: Answerer, heard: Heard, trained: Library, held_out: Library, rounds: int, seed: int, longest: int
) -> dict[str, list[Score]]:
    """Scores per corpus of the model, the majority answer and the cepstral machine on the same questions.

    `heard` holds the encoder's outputs on the clips of `held_out`, in their order.
    """
    module.eval()
    usual = majority_answers(ask(_labels_of(trained), 20000, (seed, 0)).questions)
    posteriors = cepstral_posteriors(trained, held_out)
    results = {}
    for corpus in dict.fromkeys(clip.corpus for clip in held_out.clips):
        exam = write_exam(held_out, corpus, rounds, seed)
        answerers: dict[str, Callable[[], list[str]]] = {
            "model": lambda exam=exam: answer_all(module, heard, _asked(exam), longest),
            "majority": lambda exam=exam: [usual[form(q)] for q in exam.questions],
            "svm": lambda exam=exam: [
                Posterior(posteriors[a], posteriors[b]).answer(q)
                for q, (a, b) in zip(exam.questions, exam.slots, strict=True)
            ],
        }
        results[corpus] = [s for name, answers in answerers.items() for s in take_exam(exam, name, answers())]
    return results


def _asked(exam: Exam) -> Asked:
    first, second = (torch.from_numpy(exam.slots[:, slot].copy()) for slot in (0, 1))
    plain = torch.zeros_like(first)
    return Asked((plain, first), (plain, second), exam.questions)


def _labels_of(library: Library) -> Heard:
    """Just the labels, for drawing questions whose answers are counted."""
    return Heard(torch.empty(1, 0, 0), torch.empty(1, 0, 0, 0), tuple(library.labels))


def as_json(results: dict[str, list[Score]]) -> dict[str, list[dict[str, float | str]]]:
    """Plain data, the accuracy included."""
    return {corpus: [{**asdict(s), "accuracy": s.accuracy} for s in scores] for corpus, scores in results.items()}


def as_table(corpus: str, scores: Sequence[Score]) -> Table:
    """One row per kind, one column per answerer."""
    table = Table(title=f"Held-out clips of {corpus}: right answers in %, 95 % interval")
    answerers = list(dict.fromkeys(s.answerer for s in scores))
    for header in ("kind", "questions", "clips", *answerers):
        table.add_column(header)
    for kind in dict.fromkeys(s.kind for s in scores):
        row = {s.answerer: s for s in scores if s.kind == kind}
        any_score = row[answerers[0]]
        cells = (percent(row[name]) for name in answerers)
        table.add_row(kind, str(any_score.questions), str(any_score.clips), *cells)
    return table


def percent(score: Score) -> str:
    """`92.1 [90.0, 94.0]`."""
    return f"{100 * score.accuracy:.1f} [{100 * score.low:.1f}, {100 * score.high:.1f}]"
