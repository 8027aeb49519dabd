"""Multiple choice without free text: how options are put to a model, and how they are scored."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from string import ascii_lowercase

import numpy as np
from numpy.typing import NDArray

from alm.answering.generation import greedy
from alm.engines.base import Decoder, Float32, KVCache
from alm.errors import PromptError

YES_NO = {"yes", "no"}


def options_prompt(question: str, options: Sequence[str]) -> tuple[str, list[str]]:
    """The question as the model is asked it, and the answer text that stands for each option.

    Yes and no answer the bare question. Anything else takes the inline form of Mellow's training data (see
    Mellow paper, section on ReasonAQA): 'question a) x b) y', answered by 'a) x' or 'b) y'. PromptError for
    an empty question and for options that are too few, too many, empty or alike.
    """
    texts = _checked(options)
    if {text.lower() for text in texts} == YES_NO:
        return question, texts
    lettered = [f"{letter}) {text}" for letter, text in zip(ascii_lowercase, texts, strict=False)]
    if not question.strip():
        raise PromptError("the question is empty; ask something, such as 'which sound is this?'")
    return " ".join([question.strip(), *lettered]), lettered


def log_likelihoods(
    decoder: Decoder, cache: KVCache, logits: Float32, options: Sequence[Sequence[int]]
) -> NDArray[np.float64]:
    """The log-likelihood (options,) of each run of ids after the sequence in `cache`.

    `logits` (vocabulary,) are those of the sequence's last position. The sequence is run once: the cache is
    rewound after each option, and is as it was when this returns.
    """
    shared, length = _log_softmax(logits), cache.length
    totals = np.empty(len(options))
    for index, ids in enumerate(options):
        totals[index] = shared[ids[0]]
        for token, following in pairwise(ids):
            step = cache.append(decoder.embed(np.array([token], dtype=np.int64)))
            totals[index] += _log_softmax(step)[following]
        cache.rewind(length)
    return totals


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores (options,) to probabilities (options,) that are proportional to their exponential."""
    weights = np.exp(scores - scores.max())
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def _log_softmax(logits: Float32) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - float(logits[greedy(logits)])
    return np.asarray(shifted - np.log(np.exp(shifted).sum()), dtype=np.float64)


def _checked(options: Sequence[str]) -> list[str]:
    if isinstance(options, str) or not all(isinstance(option, str) for option in options):
        raise PromptError(f"options are {options!r}; pass a list of texts, such as ['yes', 'no']")
    if not 2 <= len(options) <= len(ascii_lowercase):
        raise PromptError(f"the number of options is {len(options)}, expected 2 to {len(ascii_lowercase)}")
    texts = [option.strip() for option in options]
    seen: dict[str, int] = {}
    for number, text in enumerate(texts, start=1):
        if not text:
            raise PromptError(f"option {number} is empty; write out every option")
        if (first := seen.setdefault(text.lower(), number)) != number:
            raise PromptError(f"options {first} and {number} are both {text!r}; they must differ")
    return texts
