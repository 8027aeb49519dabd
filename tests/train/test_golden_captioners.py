"""ClapCap and ADIFF at full size against what the authors' own code computes on the same weights."""

from __future__ import annotations

import pytest
import torch
from golden.synthetic import computed, draw_by_checksum, loaded

from alm_train.checkpoints.state import load_state
from alm_train.models.adiff import Adiff, AdiffConfig
from alm_train.models.clapcap import ClapCap, ClapCapConfig
from alm_train.models.decoding import beam_search, greedy
from alm_train.models.gpt2 import GPT2LM, GPT2Config

FIXED = 2 * 513 * 1024 + 513 * 64 + 527 * 527 + 527
"""Counted upstream and not by us: STFT and mel matrices, unused classifier."""


def arrays(name: str) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(array) for key, array in computed(name).items() if array.dtype.kind != "U"}


def near(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def parameters(model: torch.nn.Module) -> int:
    return FIXED + sum(parameter.numel() for parameter in model.parameters())


@torch.inference_mode()
def test_clapcap() -> None:
    golden, model = arrays("clapcap"), loaded(ClapCap(ClapCapConfig()))
    assert parameters(model) == 226_918_615
    prefix = model.prefix(golden["audio"])
    near(prefix, golden["prefix"])
    near(model.gpt(prefix)[:, -1], golden["last_logits"])
    assert greedy(model.gpt, prefix, model.config.stop_id, 20) == golden["generated"].tolist()


@torch.inference_mode()
def test_adiff() -> None:
    golden, model = arrays("adiff"), loaded(Adiff(AdiffConfig()))
    assert parameters(model) == 296_265_943
    clips = torch.stack((golden["audio1"], golden["audio2"]))
    near(model.audio_encoder(clips), torch.cat((golden["embedding1"], golden["embedding2"])))
    prefix = model.prefix(clips[:1], clips[1:], golden["input_ids"])
    assert prefix.shape[1] == model.config.prefix_tokens
    near(prefix, golden["prefix"])
    decoder = model.caption_decoder.gpt
    near(decoder(prefix)[:, -1], golden["last_logits"])
    assert greedy(decoder, prefix, model.config.stop_id, 20) == golden["generated"].tolist()


def test_beam_search() -> None:
    golden, model = arrays("clapcap_beams"), GPT2LM(GPT2Config()).eval()
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    load_state(model, {key: draw_by_checksum(f"gpt.{key}", shape) for key, shape in shapes.items()}, "drawn weights")
    for prefix, beams in zip(golden["prefix"], golden["beams"].tolist(), strict=True):
        found = beam_search(model, prefix[None], stop_id=220, max_tokens=6)
        assert [list(beam.tokens) for beam in found] == beams


def stopping_model(seed: int) -> tuple[GPT2LM, torch.Tensor]:
    """A small model whose beams stop at different lengths, and a prefix."""
    torch.manual_seed(seed)
    model = GPT2LM(GPT2Config(vocabulary=17, width=16, layers=1, heads=2, max_positions=64)).eval()
    for parameter in model.parameters():
        parameter.data.normal_(0.0, 0.6)
    return model, torch.randn(1, 3, 16)


@pytest.mark.parametrize("seed", range(6))
@torch.inference_mode()
def test_a_beam_ends_at_its_stop_token_and_scores_its_own_tokens(seed: int) -> None:
    model, prefix = stopping_model(seed)
    found = beam_search(model, prefix, stop_id=4, max_tokens=12, beams=3, temperature=0.7)
    assert len({len(beam.tokens) for beam in found}) > 1 or all(len(beam.tokens) == 12 for beam in found)
    assert [beam.score for beam in found] == sorted((beam.score for beam in found), reverse=True)
    for beam in found:
        assert 4 not in beam.tokens[:-1]
        assert len(beam.tokens) == 12 or beam.tokens[-1] == 4
        embeddings = torch.cat((prefix, model.embed(torch.tensor([beam.tokens]))), 1)
        chances = (model(embeddings)[0, 2:-1] / 0.7).log_softmax(-1)
        mean = chances.gather(1, torch.tensor(beam.tokens)[:, None]).mean()
        assert beam.score == pytest.approx(float(mean), abs=1e-4)
