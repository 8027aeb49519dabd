"""The domain vector: its gradient, entropy that never rises, and what reset and carry mean."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alm.adaptation import AdaptationSettings, Adapter, descend, entropy, entropy_gradient
from alm.errors import PromptError

SCALE = 20.0


def _unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    rows = rng.standard_normal(shape)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _clip(seed: int, views: int = 9, size: int = 16) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = _unit(rng, size) + 0.3 * _unit(rng, views, size)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _texts(seed: int, classes: int = 5, size: int = 16) -> np.ndarray:
    return _unit(np.random.default_rng(seed), classes, size).astype(np.float32)


@given(st.integers(0, 10_000))
def test_the_gradient_is_that_of_the_entropy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    views, texts, vector = _unit(rng, 4, 6), _unit(rng, 5, 6), 0.3 * rng.standard_normal(6)
    step = 1e-6
    numeric = [
        (entropy(views, texts, vector + step * e, 5.0) - entropy(views, texts, vector - step * e, 5.0)) / (2 * step)
        for e in np.eye(6)
    ]
    np.testing.assert_allclose(entropy_gradient(views, texts, vector, 5.0), numeric, rtol=1e-4, atol=1e-6)


@given(st.integers(0, 10_000), st.floats(0.001, 2.0))
def test_entropy_never_rises_whatever_the_step(seed: int, rate: float) -> None:
    views, texts = _clip(seed).astype(np.float64), _texts(seed + 1).astype(np.float64)
    vector = np.zeros(16)
    course = [entropy(views, texts, vector, SCALE)]
    for _ in range(5):
        vector = descend(views, texts, vector, SCALE, rate)
        course.append(entropy(views, texts, vector, SCALE))
    assert all(later <= earlier for earlier, later in pairwise(course))


def test_a_clip_becomes_surer() -> None:
    plain, adapted = (
        Adapter(AdaptationSettings(steps=steps)).classify(_clip(3), _texts(4), SCALE) for steps in (0, 10)
    )
    assert plain.shape == adapted.shape == (5,)
    assert plain.sum() == pytest.approx(1, abs=1e-5) and adapted.sum() == pytest.approx(1, abs=1e-5)
    assert adapted.max() > plain.max() + 0.01


def test_only_the_surest_views_teach() -> None:
    texts = np.eye(4, 16, dtype=np.float32)
    unsure, surest = texts.mean(0) * 2, texts[1] * 0.8 + texts[2] * 0.6
    alone, among = Adapter(AdaptationSettings(kept=1.0)), Adapter(AdaptationSettings(kept=0.25))
    alone.classify(surest[np.newaxis], texts, SCALE)
    among.classify(np.stack([unsure, unsure, surest, unsure]), texts, SCALE)
    assert np.linalg.norm(alone.vector) > 0
    np.testing.assert_allclose(among.vector, alone.vector, atol=1e-6)


def test_without_steps_it_is_the_plain_softmax() -> None:
    views, texts = _clip(1), _texts(2)
    logits = SCALE * texts @ views[0]
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    found = Adapter(AdaptationSettings(steps=0)).classify(views, texts, SCALE)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_reset_leaves_another_domain_as_it_was() -> None:
    texts, settings = _texts(0), AdaptationSettings(carry=True, steps=8)
    fresh = Adapter(settings).classify(_clip(50), texts, SCALE)
    adapter = Adapter(settings)
    for seed in range(5):
        adapter.classify(_clip(seed), texts, SCALE)
    used = Adapter(settings)
    used.vector = None if adapter.vector is None else adapter.vector.copy()
    carried = used.classify(_clip(50), texts, SCALE)
    adapter.reset()
    np.testing.assert_array_equal(adapter.classify(_clip(50), texts, SCALE), fresh)
    assert np.abs(carried - fresh).max() > 1e-3


def test_each_clip_starts_anew_unless_carried() -> None:
    texts, adapter = _texts(0), Adapter(AdaptationSettings(steps=8))
    first = adapter.classify(_clip(1), texts, SCALE)
    adapter.classify(_clip(2), texts, SCALE)
    np.testing.assert_array_equal(adapter.classify(_clip(1), texts, SCALE), first)


def test_views_begin_with_the_clip_and_differ_from_it() -> None:
    samples = np.random.default_rng(0).standard_normal(800).astype(np.float32)
    views = Adapter(AdaptationSettings(views=3)).views(samples)
    assert views.shape == (4, 800) and views.dtype == np.float32
    np.testing.assert_array_equal(views[0], samples)
    assert len({view.tobytes() for view in views}) == 4
    np.testing.assert_array_equal(Adapter(AdaptationSettings(views=3)).views(samples), views)


def test_a_carried_vector_of_another_space_is_refused() -> None:
    adapter = Adapter(AdaptationSettings(carry=True))
    adapter.classify(_clip(1), _texts(0), SCALE)
    with pytest.raises(PromptError, match="16 dimensions, this model has 8"):
        adapter.classify(_clip(1, size=8), _texts(0, size=8), SCALE)


@pytest.mark.parametrize("wrong", [{"kept": 0.0}, {"kept": 1.5}, {"rate": 0.0}, {"steps": -1}, {"views": -1}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(PromptError, match="adaptation settings"):
        AdaptationSettings(**wrong)
