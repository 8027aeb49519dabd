"""The decoder and its token embedding as modules for ExecuTorch.

Keys and values live in buffers that ExecuTorch's own operators write and attend to in place. `AppendMethod` takes
them as inputs, so that whoever runs it may have as many sequences as it likes and copies nothing between steps;
`TextDecoderMethod` keeps one sequence inside, which is the interface of the runners in executorch/extension/llm.
Positions vary in number, and XNNPACK slices only what does not, so a rotation is a product with a constant.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_export.executorch_layers import RMSNorm, linear
from alm_train.models.smollm2 import Layer, SmolLM2, rotary_table


class AppendMethod(nn.Module):
    """`embeddings` (1, T, width), `rows` (K,) of them whose logits are wanted, `start` (1,) and the caches
    (1, positions, kv_heads, head_dim), keys before values layer by layer, to logits (1, K, vocabulary)."""

    def __init__(self, model: SmolLM2, positions: int) -> None:
        super().__init__()
        self.core = Core(model, positions)

    def forward(self, embeddings: Tensor, rows: Tensor, start: Tensor, caches: Sequence[Tensor]) -> Tensor:
        return self.core.logits(self.core(embeddings, start, caches).index_select(1, rows))


class TextDecoderMethod(nn.Module):
    """`embeddings` (1, T, width) at positions `start` (1,) and on to logits (1, vocabulary) of the last of them."""

    def __init__(self, model: SmolLM2, positions: int) -> None:
        super().__init__()
        self.core = Core(model, positions)
        for index, cache in enumerate(new_caches(model, positions)):
            self.register_buffer(f"cache_{index}", cache)

    def forward(self, embeddings: Tensor, start: Tensor) -> Tensor:
        caches = [getattr(self, f"cache_{index}") for index in range(2 * len(self.core.layers))]
        return self.core.logits(self.core(embeddings, start, caches)[:, -1])


def new_caches(model: SmolLM2, positions: int) -> list[Tensor]:
    """Empty caches (1, positions, kv_heads, head_dim): keys and values of the first layer, of the second, …"""
    config = model.config
    shape = (1, positions, config.kv_heads, config.head_dim)
    return [torch.zeros(shape) for _ in range(2 * config.layers)]


class TokenEmbeddingMethod(nn.Module):
    """`ids` (1, T) to embeddings (1, T, width); with 8 bits the codes of the head."""

    def __init__(self, model: SmolLM2, scheme: str) -> None:
        super().__init__()
        table = model.model.embed_tokens.weight.detach().float()
        if scheme != "fp32":
            scales = table.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
            self.register_buffer("scales", scales)
            table = (table / scales).round().to(torch.int8)
        self.register_buffer("table", table)
        self.quantized = scheme != "fp32"

    def forward(self, ids: Tensor) -> Tensor:
        rows = self.table.index_select(0, ids.reshape(-1))
        if self.quantized:
            rows = rows.to(torch.float32) * self.scales.index_select(0, ids.reshape(-1))
        return rows.unsqueeze(0)


class Core(nn.Module):
    """The layers and the head, over caches that it is handed."""

    def __init__(self, model: SmolLM2, positions: int) -> None:
        super().__init__()
        config = model.config
        self.layers = nn.ModuleList(LayerMethod(layer, config.head_dim) for layer in model.model.layers)
        self.norm = RMSNorm(model.model.norm)
        self.head = linear(model.model.embed_tokens.weight)
        cos, sin = rotary_table(config, positions)
        self.register_buffer("cos", torch.cat((cos, cos), 1))
        self.register_buffer("sin", torch.cat((sin, sin), 1))

    def forward(self, embeddings: Tensor, start: Tensor, caches: Sequence[Tensor]) -> Tensor:
        """The hidden rows (1, T, width) behind the last layer."""
        first, length = start[0].item(), embeddings.shape[1]
        torch._check(first >= 0)
        torch._check(first + length <= len(self.cos))
        rotary = [table.narrow(0, first, length).unsqueeze(1) for table in (self.cos, self.sin)]
        hidden = embeddings
        for index, layer in enumerate(self.layers):
            hidden = layer(hidden, rotary, caches[2 * index], caches[2 * index + 1], first)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden rows (…, width) to logits (…, vocabulary)."""
        return self.head(self.norm(hidden))


class LayerMethod(nn.Module):
    """Attention and gated MLP. Each projection stays apart: XNNPACK cannot slice a product of varying length."""

    def __init__(self, layer: Layer, head_dim: int) -> None:
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        self.head_dim = head_dim
        self.norm1, self.norm2 = RMSNorm(layer.input_layernorm), RMSNorm(layer.post_attention_layernorm)
        self.query, self.key = linear(attention.q_proj.weight), linear(attention.k_proj.weight)
        self.value, self.out = linear(attention.v_proj.weight), linear(attention.o_proj.weight)
        self.gate, self.up = linear(mlp.gate_proj.weight), linear(mlp.up_proj.weight)
        self.down = linear(mlp.down_proj.weight)
        half = head_dim // 2
        # (first, second) to (-second, first): the other half of a rotation.
        quarter_turn = torch.zeros(head_dim, head_dim)
        quarter_turn[:half, half:], quarter_turn[half:, :half] = -torch.eye(half), torch.eye(half)
        self.register_buffer("quarter_turn", quarter_turn)

    def forward(self, hidden: Tensor, rotary: Sequence[Tensor], keys: Tensor, values: Tensor, start: int) -> Tensor:
        normed = self.norm1(hidden)
        query, key = self.rotated(self.query(normed), rotary), self.rotated(self.key(normed), rotary)
        torch.ops.llama.update_cache(key, keys, start)
        torch.ops.llama.update_cache(self.heads(self.value(normed)), values, start)
        mixed = torch.ops.llama.custom_sdpa(query, keys, values, start, None, 0.0, True)
        hidden = hidden + self.out(mixed.reshape(1, -1, hidden.shape[2]))
        normed = self.norm2(hidden)
        return hidden + self.down(F.silu(self.gate(normed)) * self.up(normed))

    def heads(self, rows: Tensor) -> Tensor:
        """(1, T, heads * head_dim) to (1, T, heads, head_dim)."""
        return rows.reshape(1, -1, rows.shape[2] // self.head_dim, self.head_dim)

    def rotated(self, rows: Tensor, rotary: Sequence[Tensor]) -> Tensor:
        """Heads of `rows` turned by their positions' cosines and sines, each (T, 1, head_dim)."""
        heads, (cos, sin) = self.heads(rows), rotary
        return heads * cos + F.linear(heads, self.quarter_turn) * sin
