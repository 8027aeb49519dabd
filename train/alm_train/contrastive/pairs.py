"""Pairs of texts that mean the same, for the text tower to bring together.

A caption and another caption of its clip; a prompt of one or two of a caption's words and that other caption, often
with the words removed from it, so that a word is known by the company it keeps (as in skip-grams, Mikolov et al.
2013); a name in the ontology and its description. The classes of the training clips get no pairs of their own: texts
about them and about any other sound are treated alike.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from alm_train.contrastive.captions import Group
from alm_train.contrastive.degrade import CLEAN, DEGRADATIONS, SPOILT
from alm_train.contrastive.wording import TEMPLATES

KEYWORD_SHARE = 0.6
"""Of the caption pairs, how many show only words of one caption."""
REMOVED_SHARE = 0.5
"""Of those, how many have the words removed from the other caption."""
ONTOLOGY_SHARE = 0.12
"""Of all pairs, how many come from the ontology."""
COMMON = 0.15
"""A word in more than this share of the captions says nothing about a sound."""
RARE = 4
"""A word in fewer captions than this is not asked about."""
QUALITY = (CLEAN, SPOILT, *(d.text for d in DEGRADATIONS.values()))
"""Texts about the quality of a recording. Some are in every batch, each its own partner: they are told apart."""
QUALITY_PAIRS = 3
"""Of each batch."""


class TextPairs:
    """Draws batches of pairs."""

    def __init__(self, captions: Sequence[Group], ontology: Sequence[Group]) -> None:
        self.captions = captions
        self.ontology = ontology
        counts = Counter(word for group in captions for word in set(_words(group[0])))
        most = COMMON * len(captions)
        self._rarity = {w: math.log(len(captions) / n) for w, n in counts.items() if RARE <= n <= most and len(w) > 2}

    def draw(self, size: int, rng: np.random.Generator) -> tuple[list[str], list[str]]:
        """Two lists of `size` texts; those at the same place belong together, and no group comes twice."""
        named = round(ONTOLOGY_SHARE * size)
        pairs = [(QUALITY[i], QUALITY[i]) for i in _some(QUALITY, QUALITY_PAIRS, rng)]
        pairs += [self._ontology_pair(self.ontology[i], rng) for i in _some(self.ontology, named, rng)]
        pairs += [self._caption_pair(self.captions[i], rng) for i in _some(self.captions, size - len(pairs), rng)]
        return [first for first, _ in pairs], [second for _, second in pairs]

    def _caption_pair(self, group: Group, rng: np.random.Generator) -> tuple[str, str]:
        first, second = _two(group, rng)
        known = [word for word in dict.fromkeys(_words(first)) if word in self._rarity]
        if not known or rng.random() >= KEYWORD_SHARE:
            return first, second
        weights = np.array([self._rarity[word] for word in known])
        count = min(len(known), int(rng.integers(1, 3)))
        chosen = sorted(rng.choice(len(known), count, replace=False, p=weights / weights.sum()))
        words = [known[i] for i in chosen]
        if rng.random() < REMOVED_SHARE:
            second = " ".join(word for word in second.split() if not set(_words(word)) & set(words))
        return _template(rng).format(" ".join(words)), second

    def _ontology_pair(self, group: Group, rng: np.random.Generator) -> tuple[str, str]:
        *names, description = group
        return _template(rng).format(names[rng.integers(len(names))]), description


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text)


def _template(rng: np.random.Generator) -> str:
    return TEMPLATES[rng.integers(len(TEMPLATES))]


def _two(group: Sequence[str], rng: np.random.Generator) -> tuple[str, str]:
    first, second = rng.choice(len(group), 2, replace=False)
    return group[first], group[second]


def _some(items: Sequence[object], count: int, rng: np.random.Generator) -> list[int]:
    return rng.choice(len(items), min(count, len(items)), replace=False).tolist()
