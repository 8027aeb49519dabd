"""GPT-2: learned positions, layer norms before attention and MLP, one embedding table for both ends.

Parameter names are those of the published weights; their projections are stored in x out. Source: Radford et al.,
"Language Models are Unsupervised Multitask Learners" (2019), section 2.3; microsoft/CLAP.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_train.models.kv_cache import LayerCache


@dataclass(frozen=True)
class GPT2Config:
    """Shape of the model. The defaults are GPT-2 base: 124.4 M parameters."""

    vocabulary: int = 50257
    """Rows of the embedding table, which is also the output head."""
    width: int = 768
    """Size of one embedding."""
    layers: int = 12
    """Transformer layers."""
    heads: int = 12
    """Attention heads."""
    max_positions: int = 1024
    """Rows of the position table."""
    dropout: float = 0.1
    """Share of embeddings, attention weights and branch outputs that training drops."""
    norm_eps: float = 1e-5
    """Epsilon of the layer norms."""

    @property
    def head_dim(self) -> int:
        """Size of one head."""
        return self.width // self.heads


class GPT2(nn.Module):
    """Embeddings, layers and the final norm."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocabulary, config.width)
        self.wpe = nn.Embedding(config.max_positions, config.width)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.ln_f = nn.LayerNorm(config.width, config.norm_eps)
        self.apply(_initialise)

    def forward(self, embeddings: Tensor, cache: list[LayerCache] | None = None) -> Tensor:
        """(B, T, width) token embeddings to hidden states of that shape, after whatever `cache` already holds."""
        start = cache[0].length if cache else 0
        positions = torch.arange(start, start + embeddings.shape[1], device=embeddings.device)
        hidden = self.drop(embeddings + self.wpe(positions))
        for index, layer in enumerate(self.h):
            hidden = layer(hidden, cache[index] if cache else None)
        return self.ln_f(hidden)


class GPT2LM(nn.Module):
    """The model with its head, which is the embedding table."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.transformer = GPT2(config)

    def new_cache(self) -> list[LayerCache]:
        """An empty cache to hand to `forward`."""
        return [LayerCache() for _ in range(self.config.layers)]

    def embed(self, ids: Tensor) -> Tensor:
        """(B, T) token ids to (B, T, width), without positions."""
        return self.transformer.wte(ids)

    def forward(self, embeddings: Tensor, cache: list[LayerCache] | None = None) -> Tensor:
        """(B, T, width) embeddings to (B, T, vocabulary) logits, after whatever `cache` already holds."""
        return F.linear(self.transformer(embeddings, cache), self.transformer.wte.weight)


class Layer(nn.Module):
    """Attention and MLP, each behind a layer norm and a residual."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.width, config.norm_eps)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.width, config.norm_eps)
        self.mlp = MLP(config)

    def forward(self, hidden: Tensor, cache: LayerCache | None) -> Tensor:
        hidden = hidden + self.attn(self.ln_1(hidden), cache)
        return hidden + self.mlp(self.ln_2(hidden))


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.c_attn = InOutLinear(config.width, 3 * config.width)
        self.c_proj = InOutLinear(config.width, config.width)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, cache: LayerCache | None) -> Tensor:
        batch, length, width = hidden.shape
        heads = self.c_attn(hidden).reshape(batch, length, 3, self.config.heads, self.config.head_dim)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        if cache is not None:
            key, value = cache.extend(key, value)
        causal = torch.ones(length, key.shape[2], dtype=torch.bool, device=hidden.device)
        mixed = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=causal.tril(key.shape[2] - length),
            dropout_p=self.config.dropout if self.training else 0.0,
        )
        return self.drop(self.c_proj(mixed.transpose(1, 2).reshape(batch, length, width)))


class MLP(nn.Module):
    """Linear to four times the width, GELU by its tanh approximation, linear back."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.c_fc = InOutLinear(config.width, 4 * config.width)
        self.c_proj = InOutLinear(4 * config.width, config.width)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.drop(self.c_proj(F.gelu(self.c_fc(hidden), approximate="tanh")))


class InOutLinear(nn.Module):
    """A linear layer whose weight is stored (in, out), as the published files have it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, rows: Tensor) -> Tensor:
        return rows @ self.weight + self.bias


def _initialise(module: nn.Module) -> None:
    if isinstance(module, InOutLinear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
