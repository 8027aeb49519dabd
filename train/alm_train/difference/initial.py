"""Initial weights of the part that learns to explain."""

from __future__ import annotations

import torch
from torch import nn

from alm_train.models.adiff import Adiff

SCALE = 0.1
"""Size of one entry of an embedding, of a mapper's constant or of what a mapper is given."""


@torch.no_grad()
def initialise(adiff: Adiff) -> None:
    """Bring audio rows, constants and words to one scale, and let every layer pass a signal of the size it gets.

    As in `alm_train.answering.initial`: matrices are scaled by their inputs, those that write to the residual stream
    also by its depth. Out of the box a mapper's constants are thirty times as large as what they are to listen to.
    """
    decoder = adiff.caption_decoder
    config = adiff.config
    for mapper in (decoder.audio_project1, decoder.audio_project2, decoder.text_project):
        nn.init.normal_(mapper.prefix_const, std=SCALE)
        _scale_layers(mapper.transformer, config.mapper_layers)
    for mapper in (decoder.audio_project1, decoder.audio_project2):
        nn.init.normal_(mapper.linear.weight, std=SCALE)
        nn.init.zeros_(mapper.linear.bias)
    _scale_layers(decoder.cross_project, config.cross_layers)
    transformer = decoder.gpt.transformer
    nn.init.normal_(transformer.wte.weight, std=SCALE)
    nn.init.normal_(transformer.wpe.weight, std=SCALE / 2)
    _scale_layers(transformer.h, config.decoder.layers)


def _scale_layers(layers: nn.Module, depth: int) -> None:
    for name, matrix in layers.named_parameters():
        if matrix.ndim < 2:
            continue
        # GPT-2 stores its projections (in, out), the mappers (out, in).
        inputs = matrix.shape[0] if "c_" in name else matrix.shape[1]
        writes = name.endswith(("c_proj.weight", "project.weight", "fc2.weight"))
        nn.init.normal_(matrix, std=(0.5 * (2 * inputs * depth) ** -0.5) if writes else inputs**-0.5)
