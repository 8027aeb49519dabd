"""The model as ExecuTorch methods: against the PyTorch model before tracing, and as a package with few bits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_mellow import DECODER, ENCODER, QUESTION, RATE, TINY, entries_of, noise, request, tiny_model, write_tiny

import alm
from alm.errors import ExportError
from alm.verify import verify
from alm_export import mellow, pipeline
from alm_export.executorch_decoder import AppendMethod, TextDecoderMethod, TokenEmbeddingMethod, new_caches
from alm_export.executorch_encoder import AudioEncoderMethod
from alm_export.executorch_program import Delegation, check_delegation, write_program
from alm_quantize.probes import bundled_probes
from alm_train.models.frontend import FrontendConfig

pytestmark = pytest.mark.usefixtures("one_thread")

POSITIONS = 64
FLOAT = dict.fromkeys(("audio_encoder", "decoder", "head"), "fp32")


@pytest.mark.parametrize(
    "frontend",
    [
        ENCODER.frontend,
        # 100 frames of 2.5 hops, and no stretch.
        FrontendConfig(RATE, samples=20320, n_fft=512, hop=160, mels=16, fmin=50.0, fmax=7900.0),
    ],
    ids=["stretched", "as it is"],
)
def test_the_encoder_equals_the_model(frontend: FrontendConfig) -> None:
    model = tiny_model(replace(TINY, encoder=replace(ENCODER, frontend=frontend)))
    waveform = torch.from_numpy(noise(frontend.samples, 3))
    with torch.no_grad():
        tokens, mel, latent = AudioEncoderMethod(model).eval()(waveform[None])
        htsat = model.audio_encoder.base.htsat
        torch.testing.assert_close(tokens, model.audio_tokens(waveform), rtol=0, atol=1e-5)
        torch.testing.assert_close(mel, htsat.logmel_extractor(waveform), rtol=0, atol=1e-3)
        torch.testing.assert_close(latent, htsat(waveform).latent, rtol=0, atol=1e-5)


def test_the_decoders_equal_the_model() -> None:
    pytest.importorskip("executorch")
    from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401

    language = tiny_model().caption_decoder.lm
    rows = torch.from_numpy(np.random.default_rng(0).normal(0, 0.5, (1, 20, DECODER.width)).astype(np.float32))
    append, text = AppendMethod(language, POSITIONS).eval(), TextDecoderMethod(language, POSITIONS).eval()
    caches = new_caches(language, POSITIONS)
    with torch.no_grad():
        expected = language(rows)[0]
        first = append(rows[:, :12], torch.tensor([3, 11]), torch.tensor([0]), caches)[0]
        second = append(rows[:, 12:], torch.arange(8), torch.tensor([12]), caches)[0]
        text(rows[:, :12], torch.tensor([0]))
        last = text(rows[:, 12:], torch.tensor([12]))
    torch.testing.assert_close(first, expected[[3, 11]], rtol=0, atol=1e-5)
    torch.testing.assert_close(second, expected[12:], rtol=0, atol=1e-5)
    torch.testing.assert_close(last, expected[-1:], rtol=0, atol=1e-5)


def test_rows_of_the_embedding_keep_8_bits() -> None:
    language = tiny_model().caption_decoder.lm
    ids, table = torch.tensor([[5, 0, 319]]), language.model.embed_tokens.weight.detach()
    torch.testing.assert_close(TokenEmbeddingMethod(language, "fp32")(ids)[0], table[ids[0]])
    rounded = TokenEmbeddingMethod(language, "8da8w")(ids)[0]
    step = table[ids[0]].abs().amax(1, keepdim=True) / 127
    assert ((rounded - table[ids[0]]).abs() <= 0.501 * step).all()
    assert (rounded != table[ids[0]]).any()


def test_a_product_outside_xnnpack_is_an_error() -> None:
    whole = Delegation(1, 10, {"aten.index_select.default": 1, "llama.custom_sdpa.default": 2})
    check_delegation({"append": whole})
    for operator in ("aten.bmm.default", "aten.convolution.default", "torchao.dequantize_affine.default"):
        with pytest.raises(ExportError, match=f"3 × {operator} of append"):
            check_delegation({"append": replace(whole, outside={operator: 3}), "text_decoder": whole})


def test_rows_that_hold_no_group_are_an_error(tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    pytest.importorskip("executorch")
    with pytest.raises(ExportError, match=r"rows of 48 .* choose --int8"):
        write_program(tiny_model(), FLOAT | {"decoder": "8da4w"}, POSITIONS, tmp_path / "model.pte")


@pytest.mark.parametrize(("precision", "decoder"), [("int4", "8da4w"), ("int8", "8da8w")])
def test_few_bits_pass_the_gate_and_the_self_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, decoder: str
) -> None:
    pytest.importorskip("executorch", reason="executorch is an extra; make test-engines installs it")
    monkeypatch.setattr(mellow, "bundled_probes", lambda rate, samples: bundled_probes(rate, samples)[:6])
    config = replace(
        TINY,
        encoder=replace(ENCODER, depths=(1, 1)),
        decoder=replace(DECODER, width=64, hidden=96, layers=1, heads=4, kv_heads=2),
    )
    weights = write_tiny(tmp_path / "weights", tiny_model(config))
    made = pipeline.export(request(weights, tmp_path / "few.alm", precision, engine="executorch"))
    schemes = {name: component.scheme for name, component in made.manifest.components.items()}
    assert schemes == {"audio_encoder": "8da8w", "token_embedding": "8da8w", "decoder": decoder}
    # It is measured, not assumed: few bits change something, and not everything.
    logits = {stage.stage: stage.difference for stage in made.made["executorch"].parity.stages}["logits"]
    assert 1e-4 < logits < 10
    assert made.manifest.quality["whole"]["divergence_nats"] > 0
    report = json.loads(entries_of(made.path)[1]["delegation.json"])
    assert report["audio_encoder"]["delegates"] == 1
    assert not any("quantize" in operator for found in report.values() for operator in found["outside"])
    verify(made.path).check()
    with alm.load(made.path) as model, model.listen((noise(ENCODER.frontend.samples)[0], RATE)) as clip:
        assert clip.ask(QUESTION, max_tokens=4).tokens
