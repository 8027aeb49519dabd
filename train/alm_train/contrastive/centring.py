"""Both towers moved so that their vectors spread around the origin.

Trained towers keep their vectors in two narrow cones (Liang et al. 2022, "Mind the Gap"), and a few texts are then near
every sound. The mean of each tower's outputs goes into the bias of its last norm, so no other code has to know.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor

from alm_train.contrastive.captions import Group
from alm_train.contrastive.reading import tokenize
from alm_train.contrastive.wording import TEMPLATES
from alm_train.models.clap import Clap


@torch.no_grad()
def centre(clap: Clap, log_mels: Tensor, ontology: Sequence[Group], tokenizer: Tokenizer) -> None:
    """Take the mean embedding of the training clips (clips, T, mels) and that of prompts about every kind of sound in
    the ontology from the outputs of the two towers of `clap`."""
    clap.eval()
    audio, text = clap.audio_encoder, clap.caption_encoder
    heard = [audio.projection(audio.base.htsat.encode(part.float()).latent) for part in log_mels.split(64)]
    audio.projection.layer_norm.bias -= torch.cat(heard).mean(0)
    prompts = [TEMPLATES[0].format(names[0]) for names in ontology]
    text.projection.layer_norm.bias -= text(tokenize(tokenizer, prompts, clap.config)).mean(0)
