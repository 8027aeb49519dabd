"""What the official files hold besides the weights our modules have, module by module.

The authors load most of their files non-strictly; here every entry is either wanted, or listed below, or an error.
Three kinds are listed. `derived`: what our code computes by itself, compared with it and then dropped. `unused`: what
the authors' code stores and no output depends on, dropped. `optional`: what we can do without, where the module's own
value stays. Sources: the authors' modules in soham97/mellow, microsoft/CLAP
and soham97/ADIFF.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from alm_train.models.bert import Bert
from alm_train.models.cnn14 import Cnn14
from alm_train.models.frontend import LogMel
from alm_train.models.gpt2 import GPT2, GPT2LM
from alm_train.models.htsat import HTSAT
from alm_train.models.smollm2 import SmolLM2

MEL = "logmel_extractor.melW"
"""The mel filter bank. That of the file wins where there is one: the encoder was trained on it."""

Compute = Callable[[dict[str, Tensor]], Tensor | None]
"""From the module's entries in the same file to the value expected; None where they lack what it depends on."""


@dataclass(frozen=True)
class Extras:
    """Entries of one module, by their keys below it."""

    derived: dict[str, Compute] = field(default_factory=dict)
    """Compared with what is computed here, then dropped."""
    unused: tuple[str, ...] = ()
    """Dropped."""
    optional: tuple[str, ...] = ()
    """May be missing."""


def _htsat(module: HTSAT) -> Extras:
    """The transform as convolution rows, window layouts, and the classifier of the encoder's first training."""
    derived = _transform(module.logmel_extractor)
    for stage, layer in enumerate(module.layers):
        for index, block in enumerate(layer.blocks):
            below = f"layers.{stage}.blocks.{index}."
            derived[f"{below}attn.relative_position_index"] = lambda state, b=block: b.attn.relative_position_index
            if block.mask is not None:
                derived[f"{below}attn_mask"] = lambda state, b=block: b.mask
    return Extras(derived, ("head.weight", "head.bias"), (MEL,))


def _cnn14(module: Cnn14) -> Extras:
    """The transform, and the tagging head behind the embedding that CLAP reads."""
    return Extras(_transform(module.logmel_extractor), ("fc_audioset.weight", "fc_audioset.bias"), (MEL,))


def _transform(log_mel: LogMel) -> dict[str, Compute]:
    """Windowed Fourier rows, which upstream stores as the kernels of two convolutions."""
    names = [f"spectrogram_extractor.stft.{name}.weight" for name in ("conv_real", "conv_imag")]
    return {key: lambda state, part=part: log_mel.kernels[part].unsqueeze(1) for part, key in enumerate(names)}


def _smollm2(module: SmolLM2) -> Extras:
    return Extras({"lm_head.weight": lambda state: state.get("model.embed_tokens.weight")})


def _gpt2_lm(module: GPT2LM) -> Extras:
    return Extras({"lm_head.weight": lambda state: state.get("transformer.wte.weight")})


def _gpt2(module: GPT2) -> Extras:
    """Causal mask and its filler, which `transformers` before 4.31 wrote into every layer."""
    size, derived = module.config.max_positions, dict[str, Compute]()
    for layer in range(module.config.layers):
        derived[f"h.{layer}.attn.bias"] = lambda state: torch.ones(1, 1, size, size).tril()
        derived[f"h.{layer}.attn.masked_bias"] = lambda state: torch.tensor(-1e4)
    return Extras(derived)


def _bert(module: Bert) -> Extras:
    """Row numbers of the position table, which older `transformers` wrote, and the pooler behind what CLAP reads."""
    positions = torch.arange(module.config.max_positions)[None]
    unused = ("pooler.dense.weight", "pooler.dense.bias")
    return Extras({"embeddings.position_ids": lambda state: positions}, unused)


def _batch_norm(module: nn.BatchNorm2d) -> Extras:
    """The counter is read in training only."""
    return Extras(optional=("num_batches_tracked",))


EXTRAS: dict[type[nn.Module], Callable[..., Extras]] = {
    HTSAT: _htsat,
    Cnn14: _cnn14,
    Bert: _bert,
    SmolLM2: _smollm2,
    GPT2LM: _gpt2_lm,
    GPT2: _gpt2,
    nn.BatchNorm2d: _batch_norm,
}
"""By the type of module."""
