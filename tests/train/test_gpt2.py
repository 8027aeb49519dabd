"""The GPT-2 module against that of `transformers` on the same random weights."""

from __future__ import annotations

import pytest
import torch
import transformers

from alm_train.checkpoints.state import load_state
from alm_train.models.gpt2 import GPT2LM, GPT2Config


@pytest.fixture(scope="module")
def pair() -> tuple[GPT2LM, transformers.GPT2LMHeadModel]:
    torch.manual_seed(0)
    config = GPT2Config(vocabulary=97, width=48, layers=3, heads=4, max_positions=64)
    oracle = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=97, n_embd=48, n_layer=3, n_head=4, n_positions=64)
    ).eval()
    with torch.no_grad():
        for parameter in oracle.parameters():
            parameter.normal_(0.0, 0.3)
    model = GPT2LM(config).eval()
    load_state(model, oracle.state_dict(), "transformers")
    return model, oracle


def test_logits(pair: tuple[GPT2LM, transformers.GPT2LMHeadModel]) -> None:
    model, oracle = pair
    embeddings = torch.randn(2, 17, 48)
    with torch.inference_mode():
        torch.testing.assert_close(model(embeddings), oracle(inputs_embeds=embeddings).logits, rtol=0, atol=2e-5)


def test_ids_and_hidden_states(pair: tuple[GPT2LM, transformers.GPT2LMHeadModel]) -> None:
    model, oracle = pair
    ids = torch.randint(97, (2, 9))
    with torch.inference_mode():
        ours = model.transformer(model.embed(ids))
        torch.testing.assert_close(ours, oracle.transformer(ids).last_hidden_state, rtol=0, atol=2e-5)


def test_cache_gives_the_same_logits_in_any_chunks(pair: tuple[GPT2LM, transformers.GPT2LMHeadModel]) -> None:
    model, _ = pair
    embeddings = torch.randn(1, 12, 48)
    cache = model.new_cache()
    with torch.inference_mode():
        chunks = [model(part, cache) for part in embeddings.split([5, 1, 4, 2], dim=1)]
        torch.testing.assert_close(torch.cat(chunks, 1), model(embeddings), rtol=0, atol=2e-5)


def test_training_drops_out_and_reaches_every_parameter(pair: tuple[GPT2LM, transformers.GPT2LMHeadModel]) -> None:
    model = GPT2LM(pair[0].config).train()
    ids = torch.arange(20)[None]
    first, second = model(model.embed(ids)), model(model.embed(ids))
    assert not torch.equal(first, second)
    first.square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
