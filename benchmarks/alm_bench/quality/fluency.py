"""Whether a caption is broken English: a detector learned from captions and spoilt copies of them.

FENSE (Zhou et al., 2022, arXiv 2110.04684) trains BERT to find five kinds of error that captioning models make, on
captions spoilt on purpose. This spoils in the same five ways and learns a linear model on words and repetitions, which
needs no download and learns from 50 000 captions in seconds. It stands in for the authors' detector; scores that use it
say so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer

from alm_bench.quality.items import TaskError
from alm_bench.quality.ngrams import plain

Random = np.random.Generator
Words = list[str]

TAILS = ("and", "with", "followed by", "while", "as", "and a", "in the", "with a", "of a", "then", "by a", "is", "are")
CONJUNCTIONS = frozenset({"and", "while", "as", "with", "followed", "by", "then", "before", "after", "or"})
AUXILIARIES = frozenset({"is", "are", "was", "were", "be", "being", "has", "have"})
FEWEST = 100
"""Captions without which nothing is learned."""


def _add_tail(words: Words, random: Random) -> Words:
    return [*words, *TAILS[int(random.integers(len(TAILS)))].split()]


def _repeat_event(words: Words, random: Random) -> Words:
    joint = ("and", "followed by", "as", "while", "then")[int(random.integers(5))].split()
    return [*words, *joint, *words[-min(len(words), int(random.integers(3, 7))) :]]


def _repeat_adverb(words: Words, random: Random) -> Words:
    adverbs = [i for i, word in enumerate(words) if word.endswith("ly") or word in ("again", "loud", "continuously")]
    place = int(random.choice(adverbs)) if adverbs else int(random.integers(len(words)))
    return [*words[: place + 1], *(["and"] if random.random() < 0.5 else []), words[place], *words[place + 1 :]]


def _without(words: Words, random: Random, chosen: Callable[[str], bool]) -> Words:
    places = [i for i, word in enumerate(words[1:], start=1) if chosen(word)]
    if not places:
        return words
    place = int(random.choice(places))
    return words[:place] + words[place + 1 :]


def _remove_conjunction(words: Words, random: Random) -> Words:
    return _without(words, random, CONJUNCTIONS.__contains__)


def _remove_verb(words: Words, random: Random) -> Words:
    return _without(words, random, lambda word: word in AUXILIARIES or word.endswith("ing"))


SPOILT: dict[str, Callable[[Words, Random], Words]] = {
    "add_tail": _add_tail,
    "repeat_event": _repeat_event,
    "repeat_adv": _repeat_adverb,
    "remove_conj": _remove_conjunction,
    "remove_verb": _remove_verb,
}
"""The kinds of error by FENSE's names."""


@dataclass(frozen=True)
class Detector:
    """Tells how likely captions are to be broken."""

    model: Pipeline
    """Captions to probabilities of (fine, broken)."""

    def error_probability(self, captions: Sequence[str]) -> list[float]:
        """From 0 to 1, one per caption."""
        return [float(p) for p in self.model.predict_proba([plain(caption) for caption in captions])[:, 1]]


def learn(captions: Sequence[str], seed: int = 0) -> Detector:
    """Learn from captions written by people; as many again are spoilt. TaskError for fewer than `FEWEST`."""
    fine = sorted({plain(caption) for caption in captions} - {""})
    if len(fine) < FEWEST:
        raise TaskError(f"{len(fine)} different captions are too few to learn from; pass a file with {FEWEST} or more")
    random = np.random.default_rng(seed)
    kinds = list(SPOILT.values())
    broken = [" ".join(kinds[int(random.integers(len(kinds)))](caption.split(), random)) for caption in fine]
    spoilt = sorted(set(broken) - set(fine))
    words = make_pipeline(FunctionTransformer(_marks), DictVectorizer())
    features = make_union(TfidfVectorizer(ngram_range=(1, 2), min_df=3, token_pattern=r"\S+", binary=True), words)
    model = make_pipeline(features, LogisticRegression(solver="liblinear", C=10, class_weight="balanced"))
    model.fit([*fine, *spoilt], [0] * len(fine) + [1] * len(spoilt))
    return Detector(model)


def _marks(captions: Sequence[str]) -> list[dict[str, float | str]]:
    """What n-grams alone do not tell: how a caption ends and what it says twice."""
    return [_marks_of(caption.split()) for caption in captions]


def _marks_of(words: Words) -> dict[str, float | str]:
    def repeated(size: int) -> float:
        grams = Counter(tuple(words[i : i + size]) for i in range(len(words) - size + 1))
        return float(sum(count - 1 for count in grams.values()))

    content = [word for word in words if word not in CONJUNCTIONS and word not in ("a", "the", "is", "are")]
    twice = len(content) - len(set(content))
    return {
        "last": words[-1] if words else "",
        "repeated words": twice / max(len(content), 1),
        "any word twice": float(twice > 0),
        "repeated pairs": repeated(2),
        "repeated triples": repeated(3),
        "same word in a row": float(any(a == b for a, b in pairwise(words))),
        "verbs": float(any(word in AUXILIARIES or word.endswith(("ing", "s")) for word in words)),
        "length": min(len(words), 30) / 30,
    }
