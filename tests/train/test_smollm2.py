"""The decoder against the Llama of `transformers` on the same random weights."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from alm_train.models.smollm2 import SmolLM2, SmolLM2Config


@pytest.fixture(scope="module")
def pair() -> tuple[SmolLM2, LlamaForCausalLM]:
    torch.manual_seed(0)
    config = SmolLM2Config(vocabulary=97, width=48, hidden=80, layers=3, heads=6, kv_heads=2, max_positions=64)
    oracle = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=97,
            hidden_size=48,
            intermediate_size=80,
            num_hidden_layers=3,
            num_attention_heads=6,
            num_key_value_heads=2,
            max_position_embeddings=64,
            rope_theta=config.rope_theta,
            rms_norm_eps=config.norm_eps,
            tie_word_embeddings=True,
        )
    ).eval()
    with torch.no_grad():
        for parameter in oracle.parameters():
            parameter.normal_(0.0, 0.3)
    model = SmolLM2(config).eval()
    state = {key: value for key, value in oracle.state_dict().items() if key != "lm_head.weight"}
    model.load_state_dict(state)
    return model, oracle


def test_logits(pair: tuple[SmolLM2, LlamaForCausalLM]) -> None:
    model, oracle = pair
    embeddings = torch.randn(2, 17, 48)
    with torch.inference_mode():
        torch.testing.assert_close(model(embeddings), oracle(inputs_embeds=embeddings).logits, rtol=0, atol=2e-5)


def test_cache_gives_the_same_logits_in_any_chunks(pair: tuple[SmolLM2, LlamaForCausalLM]) -> None:
    model, _ = pair
    embeddings = torch.randn(1, 12, 48)
    cache = model.new_cache()
    with torch.inference_mode():
        chunks = [model(part, cache) for part in embeddings.split([5, 1, 4, 2], dim=1)]
        torch.testing.assert_close(torch.cat(chunks, 1), model(embeddings), rtol=0, atol=2e-5)
