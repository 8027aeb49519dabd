"""The `audio_encoder` graph against the PyTorch modules it is built from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_mellow import DECODER, ENCODER, FRONTEND, TINY, noise, run_graph, tiny_model

from alm.errors import ExportError
from alm_export.graphs.audio_encoder import build_audio_encoder
from alm_export.graphs.graph import GraphBuilder
from alm_export.graphs.spectrogram import log_mel
from alm_train.models.frontend import FrontendConfig, LogMel
from alm_train.models.htsat import HTSATConfig
from alm_train.models.mellow import MellowConfig

pytestmark = pytest.mark.usefixtures("one_thread")

OFFICIAL_SHAPE = HTSATConfig(width=8, depths=(2, 2, 2, 2), heads=(1, 2, 4, 8), classes=13)
"""The official frontend, fold and grid in every stage; only the widths are small."""
REFERENCE_SHAPE = HTSATConfig(
    FrontendConfig(samples=160000), frames=512, fold=2, patch=(4, 8), width=8, depths=(2, 2, 2), heads=(1, 2, 4)
)
EVEN = replace(ENCODER, frontend=replace(FRONTEND, samples=127 * 160))
"""As many frames as the encoder takes: nothing to stretch."""
SHRUNK = replace(ENCODER, frontend=replace(FRONTEND, samples=2 * 16000))
"""More frames than the encoder takes."""
UNSHIFTED = replace(ENCODER, window=8, depths=(2,), heads=(2,))
"""One stage whose grid holds one row of windows."""

CONFIGS = {
    "official": MellowConfig(OFFICIAL_SHAPE, DECODER),
    "reference": MellowConfig(REFERENCE_SHAPE, DECODER, repeat=1),
    "tiny": TINY,
    "even": replace(TINY, encoder=EVEN),
    "shrunk": replace(TINY, encoder=SHRUNK),
    "unshifted": replace(TINY, encoder=UNSHIFTED),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_stage_equals_torch(tmp_path: Path, name: str) -> None:
    model = tiny_model(CONFIGS[name])
    waveform = noise(CONFIGS[name].encoder.frontend.samples)
    found = run_graph(build_audio_encoder(model, "fp32"), tmp_path, waveform=waveform)
    with torch.inference_mode():
        sound = torch.from_numpy(waveform)
        output = model.audio_encoder.base.htsat(sound)
        expected = {
            "log_mel": model.audio_encoder.base.htsat.logmel_extractor(sound),
            "latent": output.latent,
            "audio_tokens": model.expand(model.audio_encoder.project(output)),
        }
    for stage, value in expected.items():
        assert found[stage].shape == tuple(value.shape)
        assert value.std() > 0.1, "a constant stage would prove nothing"
        np.testing.assert_allclose(found[stage], value, rtol=0, atol=2e-3 if stage == "log_mel" else 1e-4)


def test_frames_stand_for_different_times(tmp_path: Path) -> None:
    """A clip whose second half is silent: its frames must differ, and each must come `repeat` times."""
    model = tiny_model()
    waveform = noise(FRONTEND.samples)
    waveform[:, FRONTEND.samples // 2 :] = 0
    tokens = run_graph(build_audio_encoder(model, "fp32"), tmp_path, waveform=waveform)["audio_tokens"][0, 1:]
    rows = tokens.reshape(-1, TINY.repeat, DECODER.width)
    np.testing.assert_array_equal(rows[:, 0], rows[:, 1])
    assert np.abs(rows[0, 0] - rows[-1, 0]).max() > 1e-2


@pytest.mark.parametrize(("scheme", "distance"), [("int8", 0.3), ("uint8", 0.3), ("int8-block32", 0.1)])
def test_quantized_graphs_stay_close(tmp_path: Path, scheme: str, distance: float) -> None:
    model = tiny_model()
    waveform = noise(FRONTEND.samples)
    graph = build_audio_encoder(model, scheme)
    # DynamicQuantizeMatMul multiplies signed weights exactly only where the processor can; any x86 may saturate.
    found = run_graph(graph, tmp_path, waveform=waveform)
    with torch.inference_mode():
        expected = model.audio_tokens(torch.from_numpy(waveform)).numpy()
    apart = np.abs(found["audio_tokens"] - expected)
    assert 1e-4 < apart.max() < distance * expected.std() * 3
    assert apart.mean() < distance * expected.std()


@pytest.mark.parametrize("n_fft", [512, 1024, 2048])
@pytest.mark.parametrize(("hop", "rate"), [(320, 32000), (160, 16000), (441, 44100)])
def test_the_spectrogram_equals_torch(tmp_path: Path, n_fft: int, hop: int, rate: int) -> None:
    """At fmax of the Nyquist frequency every row of the transform is needed; 441 shares few factors with n_fft."""
    config = FrontendConfig(rate, samples=rate // 2 + 7, n_fft=n_fft, hop=hop, mels=32, fmin=20.0, fmax=rate / 2)
    waveform = noise(config.samples, seed=n_fft)
    graph = GraphBuilder("spectrogram")
    value = log_mel(graph, graph.input("waveform", np.float32, waveform.shape), LogMel(config))
    graph.output(value, "log_mel", np.float32, (config.frames, config.mels))
    found = run_graph(graph, tmp_path, waveform=waveform)["log_mel"]
    power = torch.stft(
        torch.from_numpy(waveform).double(),
        n_fft,
        hop,
        window=torch.hann_window(n_fft, dtype=torch.float64),
        pad_mode="reflect",
        return_complex=True,
    )
    mel = power.abs().square()[0].T @ LogMel(config).melW.double()
    expected = 10 * torch.log10(mel.clamp(min=1e-10)).numpy()
    assert found.shape == expected.shape
    assert expected.max() - expected.min() > 30
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)


def test_a_band_that_ends_early_drops_rows_and_nothing_else(tmp_path: Path) -> None:
    config = replace(FRONTEND, fmax=1500.0)
    waveform = noise(config.samples, seed=5)
    graph = GraphBuilder("spectrogram")
    value = log_mel(graph, graph.input("waveform", np.float32, waveform.shape), LogMel(config))
    graph.output(value, "log_mel", np.float32, (config.frames, config.mels))
    with torch.inference_mode():
        expected = LogMel(config)(torch.from_numpy(waveform))[0]
    found = run_graph(graph, tmp_path, waveform=waveform)["log_mel"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)
    assert graph.tensors["mel_filter_bank"].shape[0] < 512 // 4


def test_silence_is_floored(tmp_path: Path) -> None:
    found = run_graph(build_audio_encoder(tiny_model(), "fp32"), tmp_path, waveform=np.zeros((1, 16000), np.float32))
    np.testing.assert_allclose(found["log_mel"], -100, rtol=0, atol=1e-4)
    assert np.isfinite(found["audio_tokens"]).all()


def test_a_transform_that_does_not_factor_is_refused() -> None:
    config = FrontendConfig(16000, samples=16000, n_fft=1000, hop=200, mels=32, fmin=20.0, fmax=7000.0)
    with pytest.raises(ExportError, match="n_fft is 1000; the spectrogram's transform needs a multiple of 32"):
        log_mel(GraphBuilder("spectrogram"), "waveform", LogMel(config))
