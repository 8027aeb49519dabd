"""`classify(adapt=...)` on an exported package: surer of what it hears, and without a trace once reset."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_clap import export_space, write_tiny_clap
from typer.testing import CliRunner

import alm
from alm.adaptation import AdaptationSettings, Adapter
from alm.commands import app
from alm.errors import ResultsError
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three recordings of a second, two windows in the second one."""
    (tmp_path / "sounds").mkdir()
    for seed, seconds in ((1, 1.0), (2, 2.0), (3, 1.0)):
        soundfile.write(tmp_path / "sounds" / f"{seed}.wav", *_sound(seed, seconds), subtype="FLOAT")
    return tmp_path / "sounds"


def _told(*words: object) -> str:
    result = CliRunner().invoke(app, ["classify", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_the_command_adapts_each_window_or_carries_along(model: Clap, folder: Path) -> None:
    words = (model.package.path, folder, *LABELS, "--json")

    def rows(*more: str) -> list[dict[str, float]]:
        found = [json.loads(line) for line in _told(*words, *more).splitlines()]
        return [{label: row[f"p({label})"] for label in LABELS} for row in found]

    def expected(adapter: Callable[[], Adapter | None]) -> list[object]:
        paths = [folder / f"{number}.wav" for number in (1, 2, 3)]
        found = [model.classify(path, LABELS, adapt=adapter()) for path in paths]
        return [pytest.approx({one.label: one.probability for one in row.labels}, abs=1e-6) for row in found]

    carried = Adapter(AdaptationSettings(carry=True))
    plain, clip, stream = rows(), rows("--adapt", "clip"), rows("--adapt", "stream")
    assert plain == expected(lambda: None)
    assert clip == expected(Adapter)
    assert stream == expected(lambda: carried)
    assert stream[0] == pytest.approx(clip[0], abs=1e-6)
    assert stream[2] != pytest.approx(clip[2], abs=1e-6)
    single = json.loads(_told(model.package.path, folder / "2.wav", *LABELS, "--json", "--adapt", "clip"))
    assert {one["label"]: one["probability"] for one in single["labels"]} == pytest.approx(clip[1], abs=1e-6)


def test_what_is_carried_has_one_order(model: Clap, folder: Path, tmp_path: Path) -> None:
    words = ["classify", str(model.package.path), str(folder), *LABELS, "--adapt", "stream"]
    result = CliRunner().invoke(app, [*words, "--workers", "2"])
    assert result.exit_code == 2
    assert "Invalid value for --workers: --adapt stream" in result.stderr
    (tmp_path / "o.csv.part").write_text("")
    with pytest.raises(ResultsError, match=r"o\.csv\.part: what that run had carried along is lost"):
        CliRunner().invoke(app, [*words, "-o", str(tmp_path / "o.csv")], catch_exceptions=False)


def test_each_window_is_adapted(model: Clap) -> None:
    found = model.classify(_sound(1, seconds=2.5), LABELS, adapt=Adapter(AdaptationSettings(views=2)))
    assert len(found.curve) == len(found.spans) > 1
    assert sum(row.probability for row in found.labels) == pytest.approx(1, abs=1e-5)
