"""Text from a prefix, as the authors of the GPT-2 captioners decode it: greedily, or with a beam."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from alm_train.models.gpt2 import GPT2LM


@dataclass(frozen=True)
class Hypothesis:
    """One finished beam."""

    tokens: tuple[int, ...]
    """What was generated, the stop token included when it came."""
    score: float
    """Mean log-probability per token."""


@torch.inference_mode()
def greedy(model: GPT2LM, prefix: Tensor, stop_id: int, max_tokens: int) -> list[int]:
    """Token ids after a (1, T, width) prefix, the stop token included when it comes.

    ADIFF's nucleus sampler takes the most probable token whatever its settings, so this is exactly it.
    """
    cache = model.new_cache()
    embeddings, ids = prefix, []
    for _ in range(max_tokens):
        ids.append(int(model(embeddings, cache)[0, -1].argmax()))
        if ids[-1] == stop_id:
            break
        embeddings = model.embed(torch.tensor([[ids[-1]]]))
    return ids


@torch.inference_mode()
def beam_search(
    model: GPT2LM, prefix: Tensor, stop_id: int, max_tokens: int, beams: int = 5, temperature: float = 1.0
) -> list[Hypothesis]:
    """Hypotheses after a (1, T, width) prefix, the best first, as ClapCap's authors search (microsoft/CLAP).

    Scores are log-probabilities averaged over a beam's length while searching, so a stopped beam competes with
    growing ones at its own average. The whole beam is run anew at each step, which is what the authors do and slow;
    the SDK keeps the keys and values.
    """
    log_probabilities = (model(prefix)[0, -1] / temperature).log_softmax(-1)
    scores, chosen = log_probabilities.topk(beams)
    tokens, lengths, stopped = chosen[:, None], torch.ones(beams), chosen == stop_id
    while not stopped.all() and tokens.shape[1] < max_tokens:
        embeddings = torch.cat((prefix.expand(beams, -1, -1), model.embed(tokens)), 1)
        step = (model(embeddings)[:, -1] / temperature).log_softmax(-1)
        # A stopped beam goes on in one way only, at no cost: as itself.
        step[stopped] = -torch.inf
        step[stopped, 0] = 0.0
        lengths = lengths + ~stopped
        averages, places = ((scores[:, None] + step) / lengths[:, None]).flatten().topk(beams)
        parents, following = places // step.shape[1], places % step.shape[1]
        tokens = torch.cat((tokens[parents], following[:, None]), 1)
        lengths, scores = lengths[parents], averages * lengths[parents]
        stopped = stopped[parents] | (following == stop_id)
    ranked = sorted(
        zip((scores / lengths).tolist(), lengths.tolist(), tokens.tolist(), strict=True), key=lambda x: -x[0]
    )
    return [Hypothesis(tuple(ids[: int(length)]), score) for score, length, ids in ranked]
