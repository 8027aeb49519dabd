"""BERT: a bidirectional transformer with a layer norm behind each residual; the text side of CLAP 2022.

Parameter names are those of the published weights. Source: Devlin et al. (arXiv 1810.04805), section 3, and
microsoft/CLAP, which reads the hidden state before the pooler: that is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class BertConfig:
    """Shape of the model. The defaults are BERT base, uncased: 108.9 M parameters without the pooler."""

    vocabulary: int = 30522
    """Rows of the embedding table."""
    width: int = 768
    """Size of one embedding."""
    hidden: int = 3072
    """Inner size of the MLP."""
    layers: int = 12
    """Transformer layers."""
    heads: int = 12
    """Attention heads."""
    max_positions: int = 512
    """Rows of the position table."""
    types: int = 2
    """Rows of the segment table; a text of one segment uses the first."""
    dropout: float = 0.1
    """Share of embeddings, attention weights and branch outputs that training drops."""
    norm_eps: float = 1e-12
    """Epsilon of the layer norms."""


class Bert(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.apply(_initialise)

    def forward(self, ids: Tensor, real: Tensor) -> Tensor:
        """`ids` (B, T) and `real` (B, T) bool, False at padding, which no token attends, to (B, T, width)."""
        hidden = self.embeddings(ids)
        for layer in self.encoder.layer:
            hidden = layer(hidden, real[:, None, None])
        return hidden


class Embeddings(nn.Module):
    """Words, positions and segments, summed and normalised."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocabulary, config.width)
        self.position_embeddings = nn.Embedding(config.max_positions, config.width)
        self.token_type_embeddings = nn.Embedding(config.types, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, config.norm_eps)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, ids: Tensor) -> Tensor:
        positions = self.position_embeddings.weight[: ids.shape[1]]
        return self.drop(self.LayerNorm(self.word_embeddings(ids) + positions + self.token_type_embeddings.weight[0]))


class Encoder(nn.Module):
    """Holds the layers under the name that the published weights use."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.layers))


class Layer(nn.Module):
    """Attention and MLP, each with a residual and a layer norm behind it."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.intermediate = Dense(config.width, config.hidden)
        self.output = Residual(config.hidden, config)

    def forward(self, hidden: Tensor, real: Tensor) -> Tensor:
        hidden = self.attention(hidden, real)
        return self.output(F.gelu(self.intermediate.dense(hidden)), hidden)


class Attention(nn.Module):
    """Self-attention among the tokens that are no padding."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.self = nn.ModuleDict({name: nn.Linear(config.width, config.width) for name in ("query", "key", "value")})
        self.output = Residual(config.width, config)

    def forward(self, hidden: Tensor, real: Tensor) -> Tensor:
        batch, length, width = hidden.shape
        query, key, value = (
            self.self[name](hidden).reshape(batch, length, self.config.heads, -1).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        dropped = self.config.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=real, dropout_p=dropped)
        return self.output(mixed.transpose(1, 2).reshape(batch, length, width), hidden)


class Dense(nn.Module):
    """A linear layer under the name that the published weights use."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)


class Residual(nn.Module):
    """Linear, dropout, residual, layer norm."""

    def __init__(self, inputs: int, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, config.norm_eps)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, branch: Tensor, hidden: Tensor) -> Tensor:
        return self.LayerNorm(self.drop(self.dense(branch)) + hidden)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
