"""Scales of keys and values in 8 bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from alm_quantize.cache_scales import MARGIN, cache_scales
from alm_train.models.smollm2 import SmolLM2, SmolLM2Config


def test_a_scale_holds_the_largest_of_its_channel_in_any_prefix() -> None:
    torch.manual_seed(0)
    model = SmolLM2(SmolLM2Config(vocabulary=8, width=24, hidden=16, layers=2, heads=2, kv_heads=1)).eval()
    with torch.no_grad():
        model.model.layers[1].self_attn.v_proj.weight[3] = 0
    prefixes = [torch.randn(1, length, 24) for length in (5, 9)]
    found = cache_scales(model, prefixes)
    assert found.keys.shape == found.values.shape == (2, 1, 12)
    assert found.keys.dtype == np.float32
    largest = np.zeros((2, 2, 1, 12), np.float32)
    for prefix in prefixes:
        cache = model.new_cache()
        with torch.no_grad():
            model(prefix, cache)
        for index, layer in enumerate(cache):
            for part, kept in enumerate((layer.keys, layer.values)):
                largest[part, index] = np.maximum(largest[part, index], kept.abs()[0].numpy().max(1))
    assert found.values[1, 0, 3] == 1
    largest[1, 1, 0, 3] = 127 / MARGIN
    for scales, extremes in zip((found.keys, found.values), largest, strict=True):
        np.testing.assert_allclose(127 * scales, MARGIN * extremes, rtol=1e-5)
    with pytest.raises(ValueError, match="no prefix"):
        cache_scales(model, [])
