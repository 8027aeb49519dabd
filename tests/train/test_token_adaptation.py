"""Token vectors in the text tower: entropy falls, a reset is complete, the model itself never changes."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from tokenizers import Tokenizer

from alm_train.adaptation import PROMPT, TokenAdapter, TokenSettings, log_mel_views
from alm_train.models.clap import SUFFIX, Clap, ClapConfig
from alm_train.models.frontend import FrontendConfig
from alm_train.models.gpt2 import GPT2Config
from alm_train.models.htsat import HTSATConfig
from alm_train.models.two_towers import unit
from alm_train.tokenizer import pad_id, train_tokenizer

CLASSES = ("dog bark", "rain", "a long siren in the distance")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([PROMPT, *CLASSES], 300)


@pytest.fixture
def clap(tokenizer: Tokenizer) -> Clap:
    torch.manual_seed(0)
    encoder = HTSATConfig(
        frontend=FrontendConfig(samples=16000), frames=64, fold=1, patch=(8, 8), width=8, depths=(1,), heads=(2,),
        window=8, classes=2,
    )  # fmt: skip
    text = GPT2Config(vocabulary=tokenizer.get_vocab_size(), width=32, layers=2, heads=2, max_positions=80)
    model = Clap(ClapConfig(encoder=encoder, text=text, embedding=16, text_tokens=64, pad_id=pad_id(tokenizer)))
    for name, matrix in model.caption_encoder.named_parameters():
        if matrix.ndim > 1 and "wpe" not in name:
            torch.nn.init.normal_(matrix, std=0.3)
    return model.eval()


def _views(seed: int, clips: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return unit(torch.randn(clips, 1, 16, generator=generator) + 0.5 * torch.randn(clips, 8, 16, generator=generator))


def test_the_vectors_start_as_the_words_they_stand_for(clap: Clap, tokenizer: Tokenizer) -> None:
    words = tokenizer.encode(PROMPT).ids
    adapter = TokenAdapter(clap, tokenizer, CLASSES, TokenSettings(vectors=len(words)))
    for text, name in zip(adapter.texts(), CLASSES, strict=True):
        ids = torch.tensor([words + tokenizer.encode(f" {name}{SUFFIX}").ids])
        torch.testing.assert_close(text, unit(clap.embed_text(ids))[0], atol=1e-5, rtol=0)


def test_entropy_falls_with_every_small_step(clap: Clap, tokenizer: Tokenizer) -> None:
    adapter = TokenAdapter(clap, tokenizer, CLASSES, TokenSettings(steps=12, rate=1e-3))
    course = adapter.adapt(_views(0))
    assert len(course) == 13
    assert all(later < earlier for earlier, later in pairwise(course))


def test_a_reset_leaves_another_domain_as_it_was(clap: Clap, tokenizer: Tokenizer) -> None:
    adapter = TokenAdapter(clap, tokenizer, CLASSES, TokenSettings(steps=6, rate=2e-2))
    before, state = (
        adapter.probabilities(_views(9), adapter.texts()),
        {k: v.clone() for k, v in clap.state_dict().items()},
    )
    adapter.adapt(_views(0))
    assert not torch.allclose(adapter.probabilities(_views(9), adapter.texts()), before, atol=1e-3)
    adapter.reset()
    assert torch.equal(adapter.probabilities(_views(9), adapter.texts()), before)
    assert all(torch.equal(clap.state_dict()[key], tensor) for key, tensor in state.items())
    assert all(parameter.grad is None for parameter in clap.parameters())


def test_views_begin_with_the_clip() -> None:
    log_mel = torch.randn(501, 64) * 10 - 40
    views = log_mel_views(log_mel, 4, torch.Generator().manual_seed(0))
    assert views.shape == (5, 501, 64)
    assert torch.equal(views[0], log_mel)
    assert not torch.allclose(views[1], views[2])
