"""What the exporter counts: nothing lost where nothing changed, and the damage where something did."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_mellow import FRONTEND, RATE, altered_tensors, entries_of, noise, write_altered

import alm
from alm.errors import AudioError
from alm_export.pipeline import Exported
from alm_quantize.probes import LETTERS, Probe, bundled_probes, folder_probes
from alm_quantize.quality import Answered, Score, answer_in_float, compare
from alm_train.checkpoints.weights import load_weights
from alm_train.models.mellow import Mellow

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tiny_weights: Path) -> Mellow:
    return load_weights(str(tiny_weights)).model


@pytest.fixture(scope="module")
def probes() -> list[Probe]:
    return bundled_probes(RATE, FRONTEND.samples)


@pytest.fixture(scope="module")
def answered(one_thread: None, model: Mellow, tiny_package: Path, probes: list[Probe]) -> list[Answered]:
    with alm.load(tiny_package) as package:
        return answer_in_float(model, package, probes[:24])


def damaged(source: Path, path: Path, component: str, factor: float) -> Path:
    """The package with all matrices of one component multiplied by `factor`."""
    entry = f"{component}.safetensors"
    _, entries = entries_of(source)
    data = entries[entry]
    name = {"audio_encoder": "projection.linear1.weight", "decoder": "layer0.down.weight"}[component]
    return write_altered(source, path, {entry: altered_tensors(data, name, factor)})


def test_an_equal_package_agrees_in_everything(model: Mellow, tiny_package: Path, answered: list[Answered]) -> None:
    seen: list[tuple[int, int]] = []
    with alm.load(tiny_package) as package:
        whole = compare(package, answered, progress=lambda done, total: seen.append((done, total)))
        encoder = compare(package, answered, component="audio_encoder", model=model)
        decoder = compare(package, answered, component="decoder")
    assert seen == [(number, 24) for number in range(1, 25)]
    for quality in (whole, encoder, decoder):
        assert quality.agreement == Score(sum(len(item.tokens) for item in answered), 24 * 24)
        assert quality.agreement.share == 1.0
        assert 0 <= quality.divergence < 1e-6
        assert quality.accuracy == quality.accuracy_float
        assert quality.accuracy.total == 16


@pytest.mark.parametrize(("component", "other"), [("audio_encoder", "decoder"), ("decoder", "audio_encoder")])
def test_damage_is_charged_to_the_component_that_has_it(
    tmp_path: Path, model: Mellow, tiny_package: Path, answered: list[Answered], component: str, other: str
) -> None:
    with alm.load(damaged(tiny_package, tmp_path / "p.alm", component, -1.0)) as package:
        whole = compare(package, answered)
        broken = compare(package, answered, component=component, model=model)
        sound = compare(package, answered, component=other, model=model)
    assert whole.agreement.share < 0.9
    assert broken.agreement.share < 0.9
    assert broken.divergence > 0.1
    assert sound.agreement.share == 1.0
    assert sound.divergence < 1e-6


def test_fewer_bits_lose_more(tiny_export: Callable[[str], Exported]) -> None:
    eight, four = (tiny_export(scheme).manifest.quality["whole"] for scheme in ("int8-block32", "int4-block64"))
    assert four["agreement"]["share"] < eight["agreement"]["share"] < 1
    assert four["divergence_nats"] > 10 * eight["divergence_nats"] > 0


def test_right_answers_are_counted_by_how_they_begin(tiny_package: Path, answered: list[Answered]) -> None:
    """Each probe is given the answer that float32 gives, then another."""
    with alm.load(tiny_package) as package:
        text = package.reader.tokenizer.text
        begun = [replace(item, probe=replace(item.probe, answer=text(item.tokens[:2]).strip())) for item in answered]
        other = [replace(item, probe=replace(item.probe, answer="no such beginning")) for item in answered]
        assert compare(package, begun).accuracy == compare(package, begun).accuracy_float == Score(24, 24)
        assert compare(package, other).accuracy == compare(package, other).accuracy_float == Score(0, 24)


def test_scores_come_with_an_interval() -> None:
    assert Score(9, 10).to_dict() == {"share": 0.9, "n": 10, "low": 0.5958, "high": 0.9821}
    assert Score(0, 0).share == 1.0


def test_bundled_probes_ask_fairly(probes: list[Probe]) -> None:
    assert len(probes) == 3 * 24
    assert len({probe.clip for probe in probes}) == 24
    choices = [probe for probe in probes if " a) " in probe.question]
    letters = [probe.answer[0] for probe in choices if probe.answer]
    assert {letters.count(letter) for letter in LETTERS} == {6}
    presences = [probe.answer for probe in probes if probe.answer in ("yes", "no")]
    assert presences.count("yes") == presences.count("no") == 12
    for probe in probes:
        assert probe.question == probe.question.lower()
        assert probe.samples.shape == (FRONTEND.samples,)
        assert probe.samples.dtype == np.float32
        assert np.abs(probe.samples).max() > 1e-4
    for probe in choices:
        options = re.split(r" ?[a-d]\) ", probe.question)[1:]
        assert len(set(options)) == 4


def test_folders_are_searched_to_the_bottom_and_other_files_passed_over(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "README.md").write_text("not a recording")
    with pytest.raises(AudioError, match="holds no readable recording"):
        folder_probes(tmp_path, RATE, FRONTEND.samples)
    soundfile.write(tmp_path / "deep" / "er" / "b.flac", noise(RATE)[0], RATE)
    soundfile.write(tmp_path / "a.wav", noise(3 * RATE)[0], 2 * RATE)
    found = folder_probes(tmp_path, RATE, FRONTEND.samples)
    assert [probe.clip for probe in found] == ["a.wav", "a.wav", "deep/er/b.flac", "deep/er/b.flac"]
    assert all(probe.answer is None and probe.samples.shape == (FRONTEND.samples,) for probe in found)
