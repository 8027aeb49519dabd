"""`classify(adapt=...)` on an exported package: surer of what it hears, and without a trace once reset."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tiny_clap import export_space, write_tiny_clap

import alm
from alm.adaptation import AdaptationSettings, Adapter
from alm.models.clap import Clap

LABELS = ("dog bark", "rain", "a siren", "speech")
RATE = 32000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clap]:
    folder = tmp_path_factory.mktemp("clap")
    export_space("clap", write_tiny_clap(folder / "weights"), folder / "clap.alm")
    with alm.load(folder / "clap.alm", family=Clap) as loaded:
        yield loaded


def _sound(seed: int, seconds: float = 1.0) -> tuple[np.ndarray, int]:
    return np.random.default_rng(seed).normal(0, 0.1, int(seconds * RATE)).astype(np.float32), RATE


def _by_label(model: Clap, sound: tuple[np.ndarray, int], adapt: Adapter | None = None) -> dict[str, float]:
    return {found.label: found.probability for found in model.classify(sound, LABELS, adapt=adapt).labels}


def test_without_steps_nothing_changes(model: Clap) -> None:
    plain = _by_label(model, _sound(1))
    assert _by_label(model, _sound(1), Adapter(AdaptationSettings(steps=0))) == pytest.approx(plain, abs=1e-5)


def test_a_carried_vector_is_surer_of_the_stream_and_a_reset_forgets_it(model: Clap) -> None:
    plain = _by_label(model, _sound(1))
    adapter = Adapter(AdaptationSettings(views=4, steps=6, carry=True))
    for seed in range(3):
        _by_label(model, _sound(seed), adapter)
    adapted = _by_label(model, _sound(1), adapter)
    assert max(adapted.values()) > max(plain.values())
    adapter.reset()
    assert _by_label(model, _sound(1)) == plain


def test_each_window_is_adapted(model: Clap) -> None:
    found = model.classify(_sound(1, seconds=2.5), LABELS, adapt=Adapter(AdaptationSettings(views=2)))
    assert len(found.curve) == len(found.spans) > 1
    assert sum(row.probability for row in found.labels) == pytest.approx(1, abs=1e-5)
