"""The full-size float32 packages of CLAP and PAM on the golden weights: the authors' numbers, through the SDK."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from golden.synthetic import computed, official_state

import alm
from alm.models import Clap, Pam
from alm.models.sound_space import unit
from alm_export.families import find_exporter
from alm_export.pam import AUTHORS
from alm_export.pipeline import Request
from alm_export.targets import find_target
from alm_train.checkpoints.weights import Weights, load_weights
from alm_train.models.clap import Clap as TorchClap
from alm_train.models.clap import ClapConfig


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return computed("clap")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    shapes = {key: tensor.shape for key, tensor in TorchClap(ClapConfig()).state_dict().items()}
    checkpoint = tmp_path_factory.mktemp("official") / "CLAP_weights_2023.pth"
    torch.save({"model": official_state(shapes)}, checkpoint)
    loaded = load_weights(str(checkpoint), "clap")
    checkpoint.unlink()
    return loaded


def draft(family: str, weights: Weights, folder: Path) -> Path:
    """The float32 package before its quality is measured."""
    request = Request(find_target("x86_64"), "fp32", {}, "", folder / "p.alm", 0.0, family=family)
    exporter = find_exporter(family)(request, weights, folder, lambda *_: None)
    exporter._draft("onnxruntime", dict.fromkeys(exporter.parts, "fp32"))
    return exporter.draft_path


def test_authors_vectors_and_similarity(weights: Weights, golden: dict[str, np.ndarray], tmp_path: Path) -> None:
    with alm.load(draft("clap", weights, tmp_path), Clap) as model:
        sounds = [(clip, 44100) for clip in golden["audio"]]
        np.testing.assert_allclose(model.embed_audio(sounds), unit(golden["audio_embedding"]), atol=1e-4)
        texts = [str(text) for text in golden["texts"]]
        np.testing.assert_allclose(model.embed_text(texts), unit(golden["text_embedding"]), atol=1e-4)
        np.testing.assert_allclose(model.similarity(sounds, texts), golden["similarity"], atol=1e-3)


def test_authors_scores(weights: Weights, golden: dict[str, np.ndarray], tmp_path: Path) -> None:
    assert [AUTHORS.good, AUTHORS.bad] == [str(text) for text in golden["texts"][2:]]
    with alm.load(draft("pam", weights, tmp_path), Pam) as model:
        assert "text_encoder" not in model.info.components
        scores = [model.score((clip, 44100)).value for clip in golden["audio"]]
    np.testing.assert_allclose(scores, golden["pam"], atol=1e-4)
