"""SmolLM2: the Llama architecture with grouped-query attention and tied embeddings.

Parameter names are those of the published weights. Sources: Llama 2 report, section 2.2; SmolLM2-135M.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_train.models.kv_cache import LayerCache


@dataclass(frozen=True)
class SmolLM2Config:
    """Shape of the decoder. The defaults are SmolLM2-135M: 134.5 M parameters."""

    vocabulary: int = 49152
    """Rows of the embedding table, which is also the output head."""
    width: int = 576
    """Size of one embedding."""
    hidden: int = 1536
    """Inner size of the gated MLP."""
    layers: int = 30
    """Decoder layers."""
    heads: int = 9
    """Query heads."""
    kv_heads: int = 3
    """Key and value heads; each serves heads // kv_heads query heads."""
    rope_theta: float = 100000.0
    """Base of the rotary position angles."""
    norm_eps: float = 1e-5
    """Epsilon of the RMS norms."""
    max_positions: int = 8192
    """Longest sequence the published config states."""

    @property
    def head_dim(self) -> int:
        """Size of one head."""
        return self.width // self.heads


class SmolLM2(nn.Module):
    """The decoder with its head."""

    def __init__(self, config: SmolLM2Config) -> None:
        super().__init__()
        self.config = config
        self.model = Stack(config)
        self.apply(_initialise)

    def new_cache(self) -> list[LayerCache]:
        """An empty cache to hand to `forward`."""
        return [LayerCache() for _ in range(self.config.layers)]

    def forward(self, embeddings: Tensor, cache: list[LayerCache] | None = None) -> Tensor:
        """(B, T, width) embeddings to (B, T, vocabulary) logits, after whatever `cache` already holds."""
        return F.linear(self.model(embeddings, cache), self.model.embed_tokens.weight)


class Stack(nn.Module):
    """Embeddings, layers and the final norm."""

    def __init__(self, config: SmolLM2Config) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocabulary, config.width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, config.norm_eps)

    def forward(self, hidden: Tensor, cache: list[LayerCache] | None) -> Tensor:
        start = cache[0].length if cache else 0
        rotary = rotary_table(self.config, start + hidden.shape[1])[:, start:].to(hidden)
        for index, layer in enumerate(self.layers):
            hidden = layer(hidden, rotary, cache[index] if cache else None)
        return self.norm(hidden)


class Layer(nn.Module):
    """Attention and gated MLP, each behind an RMS norm and a residual."""

    def __init__(self, config: SmolLM2Config) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.width, config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.width, config.norm_eps)
        self.mlp = GatedMLP(config)

    def forward(self, hidden: Tensor, rotary: Tensor, cache: LayerCache | None) -> Tensor:
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), rotary, cache)
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class Attention(nn.Module):
    """Causal grouped-query attention with rotary positions."""

    def __init__(self, config: SmolLM2Config) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        kv_width = config.kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.width, config.width, bias=False)
        self.k_proj = nn.Linear(config.width, kv_width, bias=False)
        self.v_proj = nn.Linear(config.width, kv_width, bias=False)
        self.o_proj = nn.Linear(config.width, config.width, bias=False)

    def forward(self, hidden: Tensor, rotary: Tensor, cache: LayerCache | None) -> Tensor:
        batch, length, width = hidden.shape
        query, key, value = (
            projection(hidden).reshape(batch, length, -1, self.head_dim).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = rotate(query, rotary), rotate(key, rotary)
        if cache is not None:
            key, value = cache.extend(key, value)
        causal = torch.ones(length, key.shape[2], dtype=torch.bool, device=hidden.device)
        mask = causal.tril(key.shape[2] - length)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, width))


class GatedMLP(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, config: SmolLM2Config) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.hidden, bias=False)
        self.up_proj = nn.Linear(config.width, config.hidden, bias=False)
        self.down_proj = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(hidden)) * self.up_proj(hidden))


def rotary_table(config: SmolLM2Config, length: int) -> Tensor:
    """Cosines and sines of positions 0..length-1, shape (2, length, head_dim // 2), float32."""
    steps = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    angles = torch.arange(length, dtype=torch.float32)[:, None] / config.rope_theta ** steps[None, :]
    return torch.stack((angles.cos(), angles.sin()))


def rotate(heads: Tensor, rotary: Tensor) -> Tensor:
    """Rotate (B, heads, T, head_dim) by `rotary` (2, T, head_dim // 2); first and second half pair up."""
    cos, sin = rotary
    first, second = heads.chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
