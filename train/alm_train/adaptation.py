"""Test-time adaptation with token vectors: learned embeddings before the class names, by the text tower's gradient.

Source: Deshmukh, Singh and Raj, "Domain Adaptation for Contrastive Audio-Language Models" (arXiv 2402.09585): augment
an unlabelled clip, combine the views' predictions, lower the entropy of the combination. What the paper leaves open
(number of vectors, masks, share of views, optimiser) is set here. `alm.adaptation` is the form for numpy alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from alm_train.augment import Augmentation, augment
from alm_train.models.clap import SUFFIX, Clap
from alm_train.models.two_towers import unit

PROMPT = "this is a sound of"
"""Its last tokens are where the vectors start."""
VIEWS = Augmentation(
    mixup=0.0, background=0.0, gain_db=6.0, equaliser_db=3.0, lowpass=0.0, time_masks=2, time_width=50, mel_width=8
)
"""How a view differs from its clip: masks of at most a tenth of the frames and eight bands, level and colour."""


@dataclass(frozen=True)
class TokenSettings:
    """How token vectors are learned."""

    vectors: int = 4
    """Learned embeddings before each class name."""
    kept: float = 0.25
    """Share of the views that counts: those with the lowest entropy, at least one."""
    steps: int = 4
    """Optimiser steps per clip or group of clips."""
    rate: float = 5e-3
    """Learning rate of AdamW."""


def log_mel_views(log_mel: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(T, mels) to (1 + count, T, mels): the clip, then changed copies. The spectrum is computed once."""
    copies = log_mel.expand(count, -1, -1).contiguous()
    return torch.cat((log_mel[None], augment(copies, torch.zeros(count, 1), VIEWS, generator)[0]))


class TokenAdapter(nn.Module):
    """The vectors, and class texts that begin with them. Only the vectors learn; the tower stays as it is."""

    def __init__(self, clap: Clap, tokenizer: Tokenizer, classes: Sequence[str], settings: TokenSettings) -> None:
        super().__init__()
        self.settings = settings
        self._clap = [clap]  # in a list: the frozen model is no part of this module's state
        rows = [tokenizer.encode(f" {name}{SUFFIX}").ids for name in classes]
        longest = max(map(len, rows))
        self._last = torch.tensor([settings.vectors + len(row) - 1 for row in rows])
        self._ids = torch.tensor([row + [clap.config.pad_id] * (longest - len(row)) for row in rows])
        start = tokenizer.encode(PROMPT).ids[-settings.vectors :]
        with torch.no_grad():
            self._start = clap.caption_encoder.base.wte(torch.tensor(start)).clone()
        self.vectors = nn.Parameter(self._start.clone())

    @torch.no_grad()
    def reset(self) -> None:
        """Back to the words of `PROMPT`."""
        self.vectors.copy_(self._start)

    def texts(self) -> Tensor:
        """(classes, E) unit embeddings. The end token's place is pooled, wherever the vectors have moved it."""
        tower = self._clap[0].caption_encoder
        names = tower.base.wte(self._ids)
        hidden = tower.base(torch.cat((self.vectors.expand(len(names), -1, -1), names), dim=1))
        return unit(tower.projection(hidden[torch.arange(len(names)), self._last]))

    def probabilities(self, views: Tensor, texts: Tensor) -> Tensor:
        """(..., V, E) unit audio embeddings to (..., V, classes)."""
        return (self._clap[0].logit_scale.exp() * views @ texts.T).softmax(-1)

    def entropy(self, views: Tensor, texts: Tensor) -> Tensor:
        """Mean over clips of the entropy, in nats, of the mean over each clip's kept views (clips, V, E)."""
        mean = self.probabilities(views, texts).mean(1)
        return -torch.special.xlogy(mean, mean).sum(-1).mean()

    def adapt(self, views: Tensor) -> list[float]:
        """Learn from unlabelled clips, given as unit embeddings of their views (clips, V, E).

        Returns the entropy before each step and after the last one.
        """
        chosen = self._surest(views)
        optimiser = torch.optim.AdamW([self.vectors], lr=self.settings.rate, weight_decay=0.0)
        course = []
        for _ in range(self.settings.steps):
            loss = self.entropy(chosen, self.texts())
            course.append(loss.item())
            (self.vectors.grad,) = torch.autograd.grad(loss, [self.vectors])
            optimiser.step()
        with torch.no_grad():
            course.append(self.entropy(chosen, self.texts()).item())
        return course

    @torch.no_grad()
    def _surest(self, views: Tensor) -> Tensor:
        each = self.probabilities(views, self.texts())
        spread = -torch.special.xlogy(each, each).sum(-1)
        count = max(1, round(self.settings.kept * views.shape[1]))
        places = spread.argsort(dim=1, stable=True)[:, :count]
        return views.gather(1, places[..., None].expand(-1, -1, views.shape[-1]))
