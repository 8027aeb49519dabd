"""What every engine's KV caches do, against PyTorch in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_mellow import DECODER

import alm
from alm.engines.base import Decoder
from alm.errors import EngineError
from alm_train.checkpoints.weights import load_weights

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def decoder(engine_package: Path) -> Iterator[Decoder]:
    with alm.load(engine_package) as loaded:
        yield loaded.reader.decoder


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.5, (40, DECODER.width)).astype(np.float32)


@pytest.fixture(scope="module")
def logits(tiny_weights: Path, rows: np.ndarray) -> np.ndarray:
    """(40, vocabulary) from PyTorch in one pass."""
    model = load_weights(str(tiny_weights)).model
    with torch.inference_mode():
        return model.caption_decoder.lm(torch.from_numpy(rows)[None])[0].numpy()


@pytest.mark.parametrize("chunks", [[40], [1] * 40, [30, 1, 1, 8], [7, 13, 20], [39, 1]])
def test_prefill_chunks_and_steps_give_the_logits_of_one_pass(
    decoder: Decoder, rows: np.ndarray, logits: np.ndarray, chunks: list[int]
) -> None:
    cache, end = decoder.new_cache(), 0
    for size in chunks:
        found = cache.append(rows[end : end + size])
        end += size
        assert cache.length == end
        assert found.shape == (DECODER.vocabulary,)
        np.testing.assert_allclose(found, logits[end - 1], rtol=0, atol=1e-3)


@pytest.mark.parametrize("chunks", [[40], [1, 39], [17, 1, 22]])
def test_every_row_has_its_logits_when_all_are_asked_for(
    decoder: Decoder, rows: np.ndarray, logits: np.ndarray, chunks: list[int]
) -> None:
    cache, end = decoder.new_cache(), 0
    for size in chunks:
        found = cache.append_all(rows[end : end + size])
        end += size
        assert cache.length == end
        np.testing.assert_allclose(found, logits[end - size : end], rtol=0, atol=1e-3)
    cache.rewind(20)
    np.testing.assert_allclose(cache.append(rows[20:33]), logits[32], rtol=0, atol=1e-3)


def test_rewinding_forgets_what_came_after(decoder: Decoder, rows: np.ndarray, logits: np.ndarray) -> None:
    cache = decoder.new_cache()
    cache.append(rows[:20])
    cache.append(-rows[:15])
    cache.rewind(20)
    np.testing.assert_allclose(cache.append(rows[20:33]), logits[32], rtol=0, atol=1e-3)
    cache.rewind(0)
    np.testing.assert_allclose(cache.append(rows[:9]), logits[8], rtol=0, atol=1e-3)


def test_forks_are_independent(decoder: Decoder, rows: np.ndarray, logits: np.ndarray) -> None:
    cache = decoder.new_cache()
    cache.append(rows[:20])
    fork = cache.fork()
    other = fork.append(-rows[20:30])
    np.testing.assert_allclose(cache.append(rows[20:30]), logits[29], rtol=0, atol=1e-3)
    assert np.abs(other - logits[29]).max() > 0.1
    # The fork goes on behind its own positions, and not behind those that the other has written since.
    alone = decoder.new_cache()
    alone.append(np.concatenate([rows[:20], -rows[20:30]]))
    np.testing.assert_allclose(fork.append(rows[30:31]), alone.append(rows[30:31]), rtol=0, atol=1e-3)
    fork.rewind(20)
    np.testing.assert_allclose(fork.append(rows[20:30]), logits[29], rtol=0, atol=1e-3)
    fork.rewind(5)
    fork.append(-rows[5:30])
    np.testing.assert_allclose(cache.append(rows[30:31]), logits[30], rtol=0, atol=1e-3)


def test_after_a_rewind_forks_and_states_hold_what_is_left(
    decoder: Decoder, rows: np.ndarray, logits: np.ndarray
) -> None:
    cache = decoder.new_cache()
    cache.append(rows[:20])
    cache.fork()
    cache.state()
    cache.rewind(12)
    for left in (cache.fork(), decoder.cache_from(cache.state()), cache):
        assert left.length == 12
        np.testing.assert_allclose(left.append(rows[12:15]), logits[14], rtol=0, atol=1e-3)


def test_what_was_given_and_given_out_belongs_to_the_caller(
    decoder: Decoder, rows: np.ndarray, logits: np.ndarray
) -> None:
    cache, given = decoder.new_cache(), rows[:1].copy()
    # Runs of the same length, which an engine may have use the same memory.
    steps = [cache.append(given), cache.append(rows[1:2]), cache.append(rows[2:3])]
    runs = [cache.append_all(rows[start : start + 4]) for start in (3, 7, 11)]
    np.testing.assert_allclose(steps, logits[:3], rtol=0, atol=1e-3)
    np.testing.assert_allclose(np.concatenate(runs), logits[3:15], rtol=0, atol=1e-3)
    np.testing.assert_array_equal(given, rows[:1])


def test_a_new_cache_holds_nothing_of_those_that_are_gone(
    decoder: Decoder, rows: np.ndarray, logits: np.ndarray
) -> None:
    cache = decoder.new_cache()
    kept = cache.fork()
    for _ in range(3):
        cache.append(-rows)
        del cache
        cache = decoder.new_cache()
        assert cache.length == 0
        np.testing.assert_allclose(cache.append(rows[:9]), logits[8], rtol=0, atol=1e-3)
        np.testing.assert_allclose(kept.append(rows[kept.length][None]), logits[kept.length - 1], rtol=0, atol=1e-3)
    del cache
    # What one left behind goes to one other.
    first, second = decoder.new_cache(), decoder.new_cache()
    first.append(rows[:9])
    second.append(-rows[:9])
    np.testing.assert_allclose(first.append(rows[9:10]), logits[9], rtol=0, atol=1e-3)


def test_the_limits_of_the_cache_are_errors(decoder: Decoder, rows: np.ndarray) -> None:
    cache = decoder.new_cache()
    cache.append(np.resize(rows, (cache.capacity - 1, DECODER.width)))
    with pytest.raises(EngineError, match=f"cannot append 2 positions to {cache.capacity - 1}"):
        cache.append(rows[:2])
    with pytest.raises(EngineError, match="cannot append 0 positions"):
        cache.append(rows[:0])
    assert np.isfinite(cache.append(rows[:1])).all()
    assert cache.length == cache.capacity
    for length in (-1, cache.capacity + 1):
        with pytest.raises(EngineError, match=f"cannot rewind to {length}: the cache holds {cache.capacity}"):
            cache.rewind(length)


def test_a_failed_append_leaves_the_cache_as_it_was(decoder: Decoder, rows: np.ndarray, logits: np.ndarray) -> None:
    cache = decoder.new_cache()
    cache.append(rows[:10])
    for wrong in (rows[10:13, :-1], rows[10:13, :1]):
        with pytest.raises(EngineError, match="in the decoder"):
            cache.append(wrong)
    assert cache.length == 10
    np.testing.assert_allclose(cache.append(rows[10:14]), logits[13], rtol=0, atol=1e-3)


def test_ids_outside_the_vocabulary_are_errors(decoder: Decoder) -> None:
    assert decoder.embed(np.array([0, DECODER.vocabulary - 1])).shape == (2, DECODER.width)
    for wrong in (-1, DECODER.vocabulary, 2**40):
        with pytest.raises(EngineError, match=f"{wrong}; the vocabulary has {DECODER.vocabulary}"):
            decoder.embed(np.array([3, wrong]))


def test_more_caches_than_an_engine_holds_at_once(decoder: Decoder, rows: np.ndarray, logits: np.ndarray) -> None:
    caches = [decoder.new_cache() for _ in range(7)]
    for number, cache in enumerate(caches):
        cache.append(rows[: 10 + number])
    forks = [cache.fork() for cache in caches]
    for cache in caches:
        cache.append(-rows[20:25])
    # Each goes on where it was, whoever used the engine in between.
    for step in range(3):
        for number, fork in enumerate(forks):
            place = 10 + number + step
            np.testing.assert_allclose(fork.append(rows[place : place + 1]), logits[place], rtol=0, atol=1e-3)


def test_a_state_is_a_copy_from_which_another_cache_goes_on(
    decoder: Decoder, rows: np.ndarray, logits: np.ndarray
) -> None:
    cache = decoder.new_cache()
    cache.append(rows[:20])
    state = cache.state()
    cache.rewind(3)
    cache.append(-rows[3:25])
    again = decoder.cache_from(state)
    assert again.length == 20
    np.testing.assert_allclose(again.append(rows[20:30]), logits[29], rtol=0, atol=1e-3)
    again.rewind(7)
    np.testing.assert_allclose(again.append(rows[7:9]), logits[8], rtol=0, atol=1e-3)
    np.testing.assert_array_equal(decoder.cache_from(state).state(), state)


def test_memory_is_counted(decoder: Decoder, rows: np.ndarray) -> None:
    cache = decoder.new_cache()
    cache.append(rows[:20])
    assert cache.state().nbytes <= cache.nbytes
    assert cache.nbytes == cache.fork().nbytes


@pytest.mark.parametrize("damage", ["type", "layer", "width", "axis", "empty", "long", "nan", "infinity"])
def test_odd_states_are_refused(decoder: Decoder, rows: np.ndarray, damage: str) -> None:
    cache = decoder.new_cache()
    cache.append(rows[:5])
    state = cache.state()
    place = np.unravel_index(state.size // 2, state.shape)
    positions = state.shape.index(5)
    if damage in ("nan", "infinity"):
        state[place] = np.nan if damage == "nan" else -np.inf
    odd = {
        "type": lambda: state.astype(np.float64),
        "layer": lambda: state[:1],
        "width": lambda: state[..., :-1],
        "axis": lambda: state[np.newaxis],
        "empty": lambda: state.take(range(0), positions),
        "long": lambda: state.take(np.zeros(cache.capacity + 1, int), positions),
    }.get(damage, lambda: state)()
    with pytest.raises(EngineError, match="keys and values"):
        decoder.cache_from(odd)
