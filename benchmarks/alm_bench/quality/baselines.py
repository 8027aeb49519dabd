"""What can be scored without listening: the words of a hypothesis, and the commonest answer.

Hypotheses of a kind resemble each other (in Clotho's, neutral ones are the longest), so a model has to beat what its
words alone tell. The commonest answer is counted on the very examples, so no guess that is always the same does better.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from alm_bench.quality.entailment import scored, told_by
from alm_bench.quality.items import Item
from alm_bench.quality.letters import prefix
from alm_bench.quality.measures import Measure, mean_of


def baselines(items: Sequence[Item]) -> list[Measure]:
    """Accuracy (and macro F1 of entailment) in percent, per task and group."""
    found: list[Measure] = []
    for task, group in dict.fromkeys((item.task, item.group) for item in items):
        members = [item for item in items if (item.task, item.group) == (task, group)]
        if task == "entailment" and not any(item.rule for item in members):
            found += _by_words(group, members)
        elif task in ("mcq", "entailment"):
            found.append(_commonest(task, group, members))
    return found


def _by_words(group: str, items: Sequence[Item]) -> list[Measure]:
    if len({item.audio for item in items}) < 2:
        return []
    texts, labels = np.array([item.text for item in items]), np.array([item.answers[0] for item in items])

    def predict(train: NDArray[np.int64], rest: NDArray[np.int64]) -> Sequence[str]:
        model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10))
        return [str(label) for label in model.fit(texts[train], labels[train]).predict(texts[rest])]

    return scored(f"{group} words of the hypothesis", *told_by(items, predict))


def _commonest(task: str, group: str, items: Sequence[Item]) -> Measure:
    answers = [prefix(item.answers[0]) for item in items]
    usual = Counter(answers).most_common(1)[0][0]
    ids, clips = tuple(item.id for item in items), tuple(item.audio[0] for item in items)
    right = mean_of([100.0 * (answer == usual) for answer in answers])
    return Measure(task, f"{group}, always {usual!r}", "accuracy", ids, clips, right)
