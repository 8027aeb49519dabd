"""From an embedding to a prefix: the transformer that ClapCap and ADIFF put before their language model.

Parameter names are those of the official checkpoints. Source: ClipCap (Mokady et al., arXiv 2111.09734), section 3.2;
microsoft/CLAP and soham97/ADIFF.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Mapper(nn.Module):
    """Tokens, followed by as many learned constants, through a transformer; the outputs at the constants are kept.

    With `inputs` the tokens are made from one vector by a linear layer; without, they are given.
    """

    def __init__(self, width: int, tokens: int, layers: int, heads: int, inputs: int | None = None) -> None:
        super().__init__()
        self.prefix_const = nn.Parameter(torch.randn(tokens, width))
        self.transformer = Transformer(width, layers, heads)
        if inputs is not None:
            self.linear = nn.Linear(inputs, tokens * width)

    def from_vector(self, vector: Tensor) -> Tensor:
        """(B, inputs) to (B, tokens, width)."""
        return self(self.linear(vector).reshape(len(vector), *self.prefix_const.shape))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, tokens, width) to the same shape."""
        constants = self.prefix_const.expand(len(tokens), -1, -1)
        return self.transformer(torch.cat((tokens, constants), 1))[:, tokens.shape[1] :]


class Transformer(nn.Module):
    """Pre-norm layers without a mask and without a final norm."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, width) to the same shape."""
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens


class Layer(nn.Module):
    """Attention and MLP, each behind a layer norm and a residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class Attention(nn.Module):
    """Self-attention over all tokens; keys and values come from one product, keys first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_queries = nn.Linear(width, width, bias=False)
        self.to_keys_values = nn.Linear(width, 2 * width, bias=False)
        self.project = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, length, width = tokens.shape
        query = self.to_queries(tokens).reshape(batch, length, self.heads, -1).transpose(1, 2)
        both = self.to_keys_values(tokens).reshape(batch, length, 2, self.heads, -1)
        key, value = both.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.project(mixed.transpose(1, 2).reshape(batch, length, width))


class MLP(nn.Module):
    """Linear to twice the width, ReLU, linear back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 2 * width)
        self.fc2 = nn.Linear(2 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(F.relu(self.fc1(tokens)))
