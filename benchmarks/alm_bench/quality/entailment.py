"""Audio Entailment: does a hypothesis follow from a clip, contradict it, or neither? (arXiv 2407.18062)

Four ways, by what the package can do: a model that answers chooses among four verdicts, directly and after captioning
the clip itself; a model that embeds is read by two thresholds on the cosine of clip and hypothesis, and by a linear
probe on both embeddings. Thresholds and probe are fitted on the development file; without one, five-fold over clips.
Questions of ReasonAQA that carry their own verdicts are answered in words and scored by letter.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from alm_bench.quality.asking import Question, unpacked
from alm_bench.quality.formats import options_of
from alm_bench.quality.items import Item, TaskError
from alm_bench.quality.letters import RULES, prefix
from alm_bench.quality.measures import Measure, Places, mean_of

VERDICTS = {
    "it is definitely true": "entailment",
    "it is definitely false": "contradiction",
    "it is plausible": "neutral",
    "i cannot determine": "neutral",
}
"""What is chosen from, in this order, and the label that each stands for (README of mellow)."""

CHOOSING = {"zero-shot": "choose", "caption before reason": "choose_after_caption"}
FOLDS = 5
ORDER = ("contradiction", "neutral", "entailment")
"""Labels by rising similarity of clip and hypothesis."""
CUTS = 40
"""Quantiles of the similarities that are tried as thresholds."""

Predict = Callable[[NDArray[np.int64], NDArray[np.int64]], Sequence[str]]
"""Places to fit on and places to tell, to their labels."""


def questions(item: Item, capabilities: Collection[str]) -> list[Question]:
    """What a package is asked about one example."""
    if item.rule:
        # Their options are answered in words, which a model that embeds has none of.
        return [Question(item.id, "ask", item.text)] if "ask" in capabilities else []
    if "choose" in capabilities:
        if item.split == "fit":
            return []
        hypothesis, options = f'"{item.text}"', tuple(VERDICTS)
        return [Question(f"{item.id}|{kind}", kind, hypothesis, options) for kind in CHOOSING.values()]
    return [
        Question(f"{item.audio[0]}|embed_audio", "embed_audio"),
        Question(f"{item.id}|embed_text", "embed_text", item.text),
    ]


def measures(items: Sequence[Item], said: Mapping[str, Any]) -> list[Measure]:
    """Accuracy and macro F1 of every way that was asked."""
    found = _answered(items, said)
    for group in dict.fromkeys(item.group for item in items):
        members = [item for item in items if item.group == group and not item.rule]
        for mode, kind in CHOOSING.items():
            asked = [item for item in members if f"{item.id}|{kind}" in said]
            verdicts = [list(VERDICTS.values())[int(np.argmax(said[f"{item.id}|{kind}"]))] for item in asked]
            found += scored(f"{group} {mode}", asked, verdicts)
        embedded = [i for i in members if f"{i.id}|embed_text" in said and f"{i.audio[0]}|embed_audio" in said]
        if embedded:
            found += _contrastive(group, embedded, said)
    return found


def scored(group: str, items: Sequence[Item], told: Sequence[str]) -> list[Measure]:
    """Accuracy and macro F1, both in percent, of labels told for `items`; nothing for no items."""
    if not items:
        return []
    truth, guess = np.array([item.answers[0] for item in items]), np.array(told)
    ids, clips = tuple(item.id for item in items), tuple(item.audio[0] for item in items)

    known = np.unique(np.concatenate((truth, guess)))
    right, said = np.searchsorted(known, truth), np.searchsorted(known, guess)

    def statistic(places: Places) -> float:
        return 100 * macro_f1(right[places], said[places], len(known))

    accuracy = mean_of(100.0 * (truth == guess))
    return [
        Measure("entailment", group, "accuracy", ids, clips, accuracy),
        Measure("entailment", group, "macro F1", ids, clips, statistic),
    ]


def told_by(items: Sequence[Item], predict: Predict) -> tuple[list[Item], list[str]]:
    """The examples to be scored and what a fitted model tells of each, never fitted on the same clip.

    With a development file the rest is scored; without one, every example by the fold that its clip was left out of.
    """
    fit = np.array([place for place, item in enumerate(items) if item.split == "fit"], dtype=np.int64)
    test = np.array([place for place, item in enumerate(items) if item.split == "test"], dtype=np.int64)
    if len(fit) and len(test):
        return [items[place] for place in test], list(predict(fit, test))
    clips = [item.audio[0] for item in items]
    folds = min(FOLDS, len(set(clips)))
    if folds < 2:
        raise TaskError("thresholds and probes need two clips at least, to be fitted on one and scored on the other")
    told = np.empty(len(items), dtype=object)
    for train, rest in GroupKFold(folds).split(np.zeros(len(items)), groups=clips):
        told[rest] = predict(train, rest)
    return list(items), told.tolist()


def _contrastive(group: str, items: Sequence[Item], said: Mapping[str, Any]) -> list[Measure]:
    audio = np.stack([unpacked(said[f"{item.audio[0]}|embed_audio"]) for item in items])
    text = np.stack([unpacked(said[f"{item.id}|embed_text"]) for item in items])
    audio, text = (e / np.linalg.norm(e, axis=1, keepdims=True) for e in (audio, text))
    similarity, features = (audio * text).sum(1), np.concatenate((audio, text), axis=1)
    labels = np.array([item.answers[0] for item in items])

    def by_thresholds(train: NDArray[np.int64], rest: NDArray[np.int64]) -> Sequence[str]:
        return cut(similarity[rest], *thresholds(similarity[train], labels[train]))

    def by_probe(train: NDArray[np.int64], rest: NDArray[np.int64]) -> Sequence[str]:
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        return list(probe.fit(features[train], labels[train]).predict(features[rest]))

    return [
        *scored(f"{group} zero-shot, two thresholds", *told_by(items, by_thresholds)),
        *scored(f"{group} linear probe", *told_by(items, by_probe)),
    ]


def thresholds(similarity: NDArray[np.floating[Any]], labels: NDArray[np.str_]) -> tuple[float, float]:
    """The two cuts, low and high, of highest macro F1 on these examples."""
    cuts = np.unique(np.quantile(similarity, np.linspace(0, 1, CUTS)))
    pairs = [(float(low), float(high)) for low, high in combinations(cuts, 2)] or [(float(cuts[0]), float(cuts[0]))]
    truth = np.array([ORDER.index(label) for label in labels])
    return max(pairs, key=lambda pair: macro_f1(truth, np.digitize(similarity, pair), len(ORDER)))


def cut(similarity: NDArray[np.floating[Any]], low: float, high: float) -> list[str]:
    """Contradiction below `low`, entailment from `high` on, neutral between."""
    return [ORDER[place] for place in np.digitize(similarity, [low, high])]


def macro_f1(truth: NDArray[np.int64], told: NDArray[np.int64], labels: int) -> float:
    """The mean F1 of the labels that occur in `truth`, from 0 to 1; both are numbers below `labels`.

    As `sklearn.metrics.f1_score`, which takes 100 times as long and is needed thousands of times for an interval.
    """
    counts = np.bincount(truth * labels + told, minlength=labels * labels).reshape(labels, labels)
    there = counts.sum(1) > 0
    f1 = 2 * counts.diagonal() / np.maximum(counts.sum(0) + counts.sum(1), 1)
    return float(f1[there].mean())


def _answered(items: Sequence[Item], said: Mapping[str, Any]) -> list[Measure]:
    """Questions that carry their verdicts: right by the official rule, told by the option that was named."""
    found = []
    for group in dict.fromkeys(item.group for item in items if item.rule):
        asked = [item for item in items if item.group == group and item.rule and item.id in said]
        told = [_named(item, str(said[item.id])) for item in asked]
        known = [Item(i.id, i.task, i.group, i.audio, i.text, (_named(i, i.answers[0]),)) for i in asked]
        found += scored(group, known, told)
    return found


def _named(item: Item, answer: str) -> str:
    """The verdict that an answer stands for: the text of the option it names, or the word it is."""
    if item.rule == "letter":
        return options_of(item.text).get(prefix(answer), "no option")
    right = item.answers[0].strip().lower()
    return right if RULES["word"](answer, right) else answer.strip().lower()
