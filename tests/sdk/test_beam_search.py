"""Beam search over a decoder that is a table: what must come out is known without a model."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm.answering.beam_search import BeamSearch
from alm.answering.generation import Beginning, Settings
from alm.engines.base import Float32, Int64

VOCABULARY, STOP = 4, 3


class Table:
    """A decoder whose logits depend on all tokens so far, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.forks = 0

    def embed(self, ids: Int64) -> Float32:
        return ids[:, np.newaxis].astype(np.float32)

    def logits(self, tokens: tuple[int, ...]) -> Float32:
        drawn = np.random.default_rng([self.seed, *tokens]).standard_normal(VOCABULARY)
        return (2 * drawn).astype(np.float32)


class TableCache:
    def __init__(self, table: Table, tokens: tuple[int, ...] = ()) -> None:
        self.table, self.tokens = table, tokens

    def append(self, embeddings: Float32) -> Float32:
        self.tokens += tuple(int(row[0]) for row in embeddings)
        return self.table.logits(self.tokens)

    def fork(self) -> TableCache:
        self.table.forks += 1
        return TableCache(self.table, self.tokens)


def search(seed: int, beams: int, budget: int, temperature: float = 0.0, stop: tuple[str, ...] = ()) -> BeamSearch:
    table = Table(seed)
    beginning = Beginning(
        table, TableCache(table), table.logits(()), STOP, budget, lambda ids: "".join("abcd"[i] for i in ids)
    )
    return BeamSearch(beginning, Settings(beams=beams, temperature=temperature, stop=stop))


def average(seed: int, tokens: tuple[int, ...], temperature: float = 1.0) -> float:
    """Mean log-probability per token, one after the other from the table."""
    total = 0.0
    for place, token in enumerate(tokens):
        logits = Table(seed).logits(tokens[:place]).astype(np.float64) / temperature
        total += logits[token] - np.log(np.exp(logits).sum())
    return total / len(tokens)


def whole(length: int) -> list[tuple[int, ...]]:
    """All sequences that end at their first stop token or at `length`."""
    found = []
    for tokens in itertools.product(range(VOCABULARY), repeat=length):
        end = tokens.index(STOP) + 1 if STOP in tokens else length
        found.append(tokens[:end])
    return sorted(set(found))


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), length=st.integers(1, 4), temperature=st.sampled_from([0.0, 0.5, 2.0]))
def test_enough_beams_find_the_best_of_all_sequences(seed: int, length: int, temperature: float) -> None:
    found = search(seed, VOCABULARY**3, length, temperature).search()
    best = max(whole(length), key=lambda tokens: average(seed, tokens, temperature or 1.0))
    assert found[0].tokens == best
    assert found[0].average == pytest.approx(average(seed, best, temperature or 1.0))


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), beams=st.integers(2, 6), length=st.integers(1, 7))
def test_beams_are_ranked_distinct_and_scored_by_their_own_tokens(seed: int, beams: int, length: int) -> None:
    found = search(seed, beams, length).search()
    assert len({beam.tokens for beam in found}) == len(found)
    assert [beam.average for beam in found] == sorted((beam.average for beam in found), reverse=True)
    for beam in found:
        assert beam.average == pytest.approx(average(seed, beam.tokens))
        assert STOP not in beam.tokens[:-1]
        assert beam.stopped == (beam.tokens[-1] == STOP)
        assert beam.stopped or len(beam.tokens) == length


def test_two_beams_by_hand() -> None:
    """At each step the two best by average go on, whatever their parents; found by a search without a cache."""
    seed, length = 11, 5
    beams: list[tuple[int, ...]] = [()]
    for _ in range(length):
        grown = {tokens for tokens in beams if STOP in tokens}
        grown |= {(*tokens, new) for tokens in beams if STOP not in tokens for new in range(VOCABULARY)}
        beams = sorted(grown, key=lambda tokens: -average(seed, tokens))[:2]
    assert [beam.tokens for beam in search(seed, 2, length).search()] == beams


def test_the_text_ends_before_the_stop_token_or_string() -> None:
    seeds = {search(seed, 3, 6).search()[0].stopped: seed for seed in range(40)}
    for stopped, reason in ((True, "stop"), (False, "length")):
        running = search(seeds[stopped], 3, 6)
        best = search(seeds[stopped], 3, 6).search()[0].tokens
        pieces = list(running)
        assert running.finish_reason == reason
        assert tuple(token for token, _ in pieces) == (best[:-1] if stopped else best)
        assert "".join(text for _, text in pieces) == "".join("abcd"[i] for i in best if i != STOP)
    best = search(seeds[False], 3, 6).search()[0].tokens
    running = search(seeds[False], 3, 6, stop=("abc"[best[1]],))
    assert "abc"[best[1]] not in "".join(text for _, text in running)
    assert running.finish_reason == "stop_string"


def test_a_cache_is_copied_only_where_two_beams_share_a_beginning() -> None:
    running = search(5, 3, 6)
    running.search()
    table = running._beginning.decoder
    assert isinstance(table, Table)
    # Three beams over five more steps are fifteen caches; the first step alone needs two copies.
    assert 2 <= table.forks < 15
