"""CLAP 2023 at full size against what the authors' own code computes on the same weights; so is the PAM score."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden.synthetic import computed, loaded

from alm_train.models.clap import Clap, ClapConfig


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return computed("clap")


@pytest.fixture(scope="module")
def model() -> Clap:
    return loaded(Clap(ClapConfig()))


def test_parameter_count(model: Clap) -> None:
    fixed = 2 * 513 * 1024 + 513 * 64 + 527 * 527 + 527  # counted upstream: STFT and mel matrices, unused classifier
    assert sum(parameter.numel() for parameter in model.parameters()) + fixed == 159_439_064


def test_log_mel_hears_through_the_bank_of_32_khz(model: Clap, golden: dict[str, np.ndarray]) -> None:
    with torch.inference_mode():
        log_mel = model.audio_encoder.base.htsat.logmel_extractor(torch.from_numpy(golden["audio"])).numpy()
    assert log_mel.shape == (2, 965, 64)
    difference, loud = np.abs(log_mel[:, ::8] - golden["logmel"]), golden["logmel"] > -60
    assert loud.mean() > 0.3
    assert difference[loud].max() <= 1e-3
    assert difference.max() <= 0.1


def test_embeddings_similarity_and_score(model: Clap, golden: dict[str, np.ndarray]) -> None:
    with torch.inference_mode():
        audio = model.embed_audio(torch.from_numpy(golden["audio"]))
        text = model.embed_text(torch.from_numpy(golden["input_ids"]))
        similarity = model.similarity(audio, text)
    np.testing.assert_allclose(audio, golden["audio_embedding"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(text, golden["text_embedding"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(similarity, golden["similarity"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(similarity[:, 2:].softmax(1)[:, 0], golden["pam"], rtol=0, atol=1e-4)


def test_padding_behind_a_text_changes_nothing(model: Clap, golden: dict[str, np.ndarray]) -> None:
    ids = torch.from_numpy(golden["input_ids"])[:1]
    length = int((ids != 0).sum())
    with torch.inference_mode():
        torch.testing.assert_close(model.embed_text(ids[:, :length]), model.embed_text(ids), rtol=0, atol=1e-4)
    assert model.pad(ids[0, :length].tolist()) == ids[0].tolist()


def test_a_pad_token_inside_a_text_moves_the_pooled_place_to_the_left(model: Clap) -> None:
    """`!` is the pad token: with one of them the place is the last but one, as in microsoft/CLAP."""
    ids = torch.tensor([[5661, 318, 0, 220, 50256]])
    with torch.inference_mode():
        hidden = model.caption_encoder.base(model.caption_encoder.base.wte(ids))
        places = model.caption_encoder.projection(hidden[0])
        torch.testing.assert_close(model.embed_text(ids)[0], places[3], rtol=0, atol=1e-4)
        assert not torch.allclose(places[3], places[4], atol=0.1)
