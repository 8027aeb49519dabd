"""Mellow at full size against what the authors' own code computes on the same weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden.synthetic import computed, loaded

from alm_train.models.htsat import HTSATOutput
from alm_train.models.mellow import Mellow, MellowConfig


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return computed("mellow")


@pytest.fixture(scope="module")
def model() -> Mellow:
    return loaded(Mellow(MellowConfig()))


@pytest.fixture(scope="module")
def waveforms(golden: dict[str, np.ndarray]) -> torch.Tensor:
    tiled = np.tile(golden["audio2_unpadded"], 2)[: len(golden["audio1"])]
    return torch.from_numpy(np.stack((golden["audio1"], tiled)))


@pytest.fixture(scope="module")
def encoded(model: Mellow, waveforms: torch.Tensor) -> HTSATOutput:
    with torch.inference_mode():
        return model.audio_encoder.base.htsat(waveforms)


def test_parameter_count(model: Mellow) -> None:
    fixed = 2 * 513 * 1024 + 513 * 64 + 527 * 527 + 527  # counted upstream: STFT and mel matrices, unused classifier
    assert sum(parameter.numel() for parameter in model.parameters()) + fixed == 167_020_951


def test_log_mel(model: Mellow, waveforms: torch.Tensor, golden: dict[str, np.ndarray]) -> None:
    log_mel = model.audio_encoder.base.htsat.logmel_extractor(waveforms)[:, ::8].numpy()
    difference, loud = np.abs(log_mel - golden["logmel"]), golden["logmel"] > -60
    assert loud.mean() > 0.3
    assert difference[loud].max() <= 1e-3
    assert difference.max() <= 0.1


def test_encoder(encoded: HTSATOutput, golden: dict[str, np.ndarray]) -> None:
    np.testing.assert_allclose(encoded.latent, golden["latent"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(encoded.clipwise, golden["clipwise"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(encoded.frames, golden["frame_tokens"], rtol=0, atol=1e-3)


def test_prefix_logits_and_tokens(model: Mellow, encoded: HTSATOutput, golden: dict[str, np.ndarray]) -> None:
    with torch.inference_mode():
        rows = model.audio_encoder.project(encoded)
        np.testing.assert_allclose(rows, golden["projected"], rtol=0, atol=1e-3)
        first, second = model.expand(rows).split(1)
        prefix = model.prefix(first, second, torch.from_numpy(golden["input_ids"]))
        assert prefix.shape == (1, 389, 576)
        np.testing.assert_allclose(prefix[:, ::4], golden["prefix"], rtol=0, atol=1e-3)
        logits = model.caption_decoder.lm(prefix)[:, -1]
        np.testing.assert_allclose(logits, golden["last_logits"], rtol=0, atol=1e-3)
        assert model.generate(prefix, len(golden["generated"])) == golden["generated"].tolist()
