"""Exports of CLAP and PAM: parity with PyTorch, the gate, stored texts, and what is refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from tiny_clap import TINY, export_space
from tiny_mellow import altered_tensors, entries_of, write_altered

import alm
from alm.errors import ExportError, PackageError, QualityError
from alm.models import Clap
from alm.package import write_package
from alm.package.safetensors import read_tensors, write_tensors
from alm.verify import verify
from alm_export import sound_space
from alm_export.card import model_card
from alm_export.pam import AUTHORS, parse_prompts
from alm_export.pipeline import Exported
from alm_quantize import likeness
from alm_quantize.probes import bundled_clips
from alm_quantize.quality import Score
from alm_train.checkpoints.download import OFFICIAL

pytestmark = pytest.mark.usefixtures("one_thread")
Export = Callable[..., Exported]


@pytest.fixture
def few_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that are about something else than quality."""
    monkeypatch.setattr(sound_space, "bundled_clips", lambda *sizes: dict(islice(bundled_clips(*sizes).items(), 4)))


@pytest.mark.parametrize("family", ["clap", "pam"])
def test_a_float32_package_is_pytorch(tiny_space: Export, family: str) -> None:
    exported = tiny_space(family)
    parity = {stage.stage: stage.difference for stage in exported.made["onnxruntime"].parity.stages}
    assert parity["embedding"] <= 1e-4
    assert parity["similarity"] <= 1e-4 * 20
    assert ("text_embedding" in parity) is (family == "clap")
    whole = exported.manifest.quality["whole"]
    assert whole["audio_cosine"] == pytest.approx(1)
    assert whole["ranking"]["share"] > 0.999
    assert verify(exported.path).ok


def test_int8_is_close_smaller_and_measured(tiny_space: Export) -> None:
    exact, small = tiny_space("clap"), tiny_space("clap", "int8")
    assert {part.scheme for part in small.manifest.components.values()} == {"uint8"}
    assert small.path.stat().st_size < 0.7 * exact.path.stat().st_size
    whole = small.manifest.quality["whole"]
    assert 0.99 <= whole["audio_cosine"] < 1
    assert 0.99 <= whole["text_cosine"] < 1
    assert whole["ranking"]["n"] == 24 * 276
    assert verify(small.path).ok


@pytest.mark.usefixtures("few_clips")
def test_the_gate_climbs_and_refuses(tiny_clap_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "LEAST_COSINE", 0.999999)
    exported = export_space("pam", tiny_clap_weights, tmp_path / "p.alm", "int8")
    assert exported.manifest.components["audio_encoder"].scheme == "fp32"
    tried = [one["schemes"]["audio_encoder"] for one in exported.manifest.quality["tried"]]
    assert tried == ["uint8", "int8-block32", "fp32"]
    with pytest.raises(QualityError, match=r"median cosine of text_encoder 0\.99"):
        export_space("clap", tiny_clap_weights, tmp_path / "c.alm", "int8")
    assert not (tmp_path / "c.alm").exists()


@pytest.mark.parametrize(("cosine", "changed", "kept"), [(0.99, 1, True), (0.989, 1, False), (0.999, 3, False)])
def test_vectors_must_be_near_and_few_pairs_change_places(cosine: float, changed: int, kept: bool) -> None:
    cosines = {"audio_encoder": cosine, "text_encoder": 1.0}
    found = likeness.Likeness({}, cosines, Score(100 - changed, 100), {})
    assert found.within(0.02) is kept


@pytest.mark.parametrize(
    ("component", "name", "stage"),
    [
        ("audio_encoder", "mel_filter_bank", "log_mel"),
        ("audio_encoder", "projection.linear2.weight", "embedding"),
        ("text_encoder", "text.layer1.fc1.weight", "text_embedding"),
        ("text_encoder", "token_table", "text_embedding"),
    ],
)
def test_an_altered_weight_shows_first_where_it_is_used(
    tiny_space: Export, tmp_path: Path, component: str, name: str, stage: str
) -> None:
    source, entry = tiny_space("clap").path, f"{component}.safetensors"
    data = altered_tensors(entries_of(source)[1][entry], name, 1.3)
    first = verify(write_altered(source, tmp_path / "p.alm", {entry: data})).first_difference
    assert first is not None
    assert first.stage == stage


def test_altered_prompts_show_in_the_similarity(tiny_space: Export, tmp_path: Path) -> None:
    source = tiny_space("pam").path
    pairs = read_tensors(entries_of(source)[1]["vectors.safetensors"])["pairs"]

    def altered(values: np.ndarray) -> Path:
        file = io.BytesIO()
        write_tensors(file, {"pairs": values})
        return write_altered(source, tmp_path / "p.alm", {"vectors.safetensors": file.getvalue()})

    first = verify(altered(np.ascontiguousarray(pairs[:, ::-1]))).first_difference
    assert first is not None
    assert first.stage == "similarity"
    for broken in (2 * pairs, pairs[:, :1].copy(), pairs.astype(np.float16), np.full_like(pairs, np.nan)):
        with pytest.raises(PackageError, match="export the package again"):
            verify(altered(broken))


def test_sections_that_contradict_each_other(tiny_space: Export, tmp_path: Path) -> None:
    manifest, entries = entries_of(tiny_space("pam").path)
    space = manifest.embedding
    assert space is not None
    for change, message in (
        ({"vectors": None}, "exactly when there are labels or pairs"),
        ({"template": "a sound"}, "template"),
        ({"pairs": (*space.pairs, *space.pairs)}, "occurs twice"),
        ({"scale": 0.0}, "embedding.scale"),
    ):
        with pytest.raises(PackageError, match=message):
            write_package(tmp_path / "p.alm", replace(manifest, embedding=replace(space, **change)), entries)


def test_prompts_are_the_authors_unless_others_are_given(tmp_path: Path) -> None:
    assert AUTHORS.good == "the sound is clear and clean."
    (pair,) = parse_prompts(" a ; b ")
    assert (pair.name, pair.good, pair.bad) == ("quality", "a", "b")
    listed = tmp_path / "p.yaml"
    no_good, no_name = "- {name: a, good: b}", "- {name: a b, good: b, bad: c}"
    for text in ("", "3", "[", no_good, no_name, "- {name: a, good: '', bad: c}"):
        listed.write_text(text)
        with pytest.raises(ExportError, match="--prompts"):
            parse_prompts(str(listed))
    listed.write_text("- {name: a, good: b, bad: c}\n- {name: a, good: d, bad: e}")
    for given in (str(listed), "a;b;c", "a; ", str(tmp_path / "nowhere.yaml")):
        with pytest.raises(ExportError, match="--prompts"):
            parse_prompts(given)
    listed.write_text("- {name: windows, good: b, bad: c}")
    with pytest.raises(ExportError, match="another column 'windows'"):
        parse_prompts(str(listed))


@pytest.mark.usefixtures("few_clips")
def test_labels_that_cannot_be_stored(tiny_clap_weights: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    for text in (b"", b"one\n", b"one\none\n", b"\xff\xfe\n"):
        labels.write_bytes(text)
        with pytest.raises(ExportError, match="--labels"):
            export_space("clap", tiny_clap_weights, tmp_path / "p.alm", labels=labels)
    with pytest.raises(ExportError, match="without the text encoder a package needs labels"):
        export_space("clap", tiny_clap_weights, tmp_path / "p.alm", no_text=True)
    labels.write_text(f"rain\n{'very ' * 90}long\n")
    with pytest.raises(ExportError, match=f"the limit of this package is {TINY.text_tokens}"):
        export_space("clap", tiny_clap_weights, tmp_path / "p.alm", labels=labels)


@pytest.mark.parametrize("source", OFFICIAL)
def test_a_card_says_which_official_checkpoint_it_is(tiny_space: Export, source: str) -> None:
    with alm.load(tiny_space("clap").path, Clap) as model:
        manifest = model.package.manifest
    named = replace(manifest, weights=replace(manifest.weights, source=source))
    assert "The official checkpoint" in model_card(named, "It hears.", "task", "alm classify PACKAGE")
