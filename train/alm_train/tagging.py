"""Stages one and two: the convolutional teacher, then the HTS-AT encoder that it guides, as taggers of clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_train.augment import Augmentation, augment
from alm_train.data.library import Library
from alm_train.data.sounds import LABELS
from alm_train.loop import Loss, Metrics, Validate, run_stage
from alm_train.models.htsat import HTSAT
from alm_train.recipe import TaughtRecipe
from alm_train.run import Reporter
from alm_train.teacher import ConvTagger, guide_map


@dataclass(frozen=True)
class Batches:
    """Balanced batches: an epoch holds `per_class` clips of every class, whatever the corpus holds."""

    library: Library
    """Where the clips come from."""
    per_class: int
    """Clips of each class in an epoch."""
    size: int
    """Clips of a batch."""
    seed: int
    """Seed of the order."""

    @property
    def epoch_steps(self) -> int:
        """Whole batches of an epoch."""
        return max(1, len(set(self.library.labels)) * self.per_class // self.size)

    def order(self, epoch: int) -> list[int]:
        """Clip indices of an epoch. Each class is walked through in a fresh order before a clip comes again."""
        members: dict[str, list[int]] = {}
        for index, label in enumerate(self.library.labels):
            members.setdefault(label, []).append(index)
        chosen: list[int] = []
        for group in members.values():
            first = epoch * self.per_class
            chosen += [self._walk(group, place) for place in range(first, first + self.per_class)]
        return np.random.default_rng([self.seed, epoch]).permutation(chosen).tolist()

    def _walk(self, group: list[int], place: int) -> int:
        lap, offset = divmod(place, len(group))
        return group[np.random.default_rng([self.seed, lap, group[0]]).permutation(len(group))[offset]]

    def at(self, step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Log-mels (size, T, mels) float32 at random speeds, and one-hot targets (size, classes)."""
        epoch, place = divmod(step, self.epoch_steps)
        clips = self.order(epoch)[place * self.size : (place + 1) * self.size]
        views = torch.randint(len(self.library.speeds), (len(clips),), generator=generator)
        return self.library.log_mels[views, torch.tensor(clips)].float(), targets_of(self.library, clips)


def targets_of(library: Library, clips: list[int]) -> Tensor:
    """One-hot (len(clips), classes) targets."""
    labels = torch.tensor([LABELS.index(library.clips[c].label) for c in clips])
    return F.one_hot(labels, len(LABELS)).float()


def train_teacher(
    recipe: TaughtRecipe, train: Library, held_out: Library, output: Path, reporter: Reporter
) -> ConvTagger:
    """The teacher that `recipe` asks for, trained on the clips of `train` and watched on `held_out`."""
    stage = recipe.teaching
    batches = Batches(train, recipe.data.per_class, stage.batch, recipe.seed)
    torch.manual_seed(0)
    teacher = ConvTagger(recipe.frontend.mels, recipe.teacher.width, len(LABELS), recipe.teacher.dropout)
    with reporter.stage("teacher") as report:
        return run_stage(
            "teacher",
            teacher,
            stage.schedule(batches.epoch_steps, recipe.seed, recipe.checkpoint_seconds),
            teacher_loss(batches, recipe.augmentation.settings()),
            teacher_validation(held_out),
            output,
            report,
        )


def teacher_loss(batches: Batches, settings: Augmentation) -> Loss[ConvTagger]:
    """Cross-entropy of the teacher against mixed labels."""

    def loss(module: ConvTagger, step: int, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        log_mel, targets = augment(*batches.at(step, generator), settings, generator)
        with half_precision():
            logits = module(log_mel).float()
        return F.cross_entropy(logits, smooth(targets)), {}

    return loss


class GuidedEncoder(nn.Module):
    """HTS-AT and the linear map from its final tokens to the teacher's channels (training only)."""

    def __init__(self, htsat: HTSAT, channels: int) -> None:
        super().__init__()
        self.htsat = htsat
        self.guide = nn.Linear(htsat.config.final_width, channels)

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, mels) to final tokens (B, tokens, width) and tagging logits (B, positions, classes)."""
        htsat = self.htsat
        tokens = htsat.patch_embed(htsat.fold(htsat.normalise(log_mel)))
        for stage in htsat.layers:
            tokens = stage(tokens)
        tokens = htsat.norm(tokens)
        return tokens, htsat.tag(tokens)

    def imitation(self, tokens: Tensor) -> Tensor:
        """Final tokens as a (B, bands, time, channels) guess of the teacher's feature map."""
        config = self.htsat.config
        rows, columns = config.final_grid
        grid = self.guide(tokens.float()).reshape(len(tokens), config.fold, rows // config.fold, columns, -1)
        return grid.transpose(1, 2).flatten(2, 3)


def guided_loss(
    batches: Batches, settings: Augmentation, teacher: ConvTagger, answers: float, features: float
) -> Loss[GuidedEncoder]:
    """Cross-entropy against labels and the teacher's probabilities, plus the feature map's mean square error.

    A small binary cross-entropy keeps the sigmoids of the head, which the decoder reads, from drifting:
    cross-entropy alone leaves their common offset free.
    """

    def loss(module: GuidedEncoder, step: int, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        log_mel, labels = augment(*batches.at(step, generator), settings, generator)
        config = module.htsat.config
        size = (config.final_grid[0] // config.fold, config.positions)
        with half_precision():
            with torch.no_grad():
                seen = teacher.features(log_mel)
                taught = teacher.classify(seen).float().softmax(-1)
            tokens, frames = module(log_mel)
        logits = frames.float().mean(1)
        targets = answers * taught + (1 - answers) * smooth(labels)
        naming = F.cross_entropy(logits, targets)
        detection = F.binary_cross_entropy_with_logits(logits, targets) * len(LABELS)
        imitation = F.mse_loss(module.imitation(tokens), guide_map(seen, size))
        total = naming + 0.1 * detection + features * imitation
        return total, {"naming": naming.item(), "imitation": imitation.item()}

    return loss


def half_precision() -> torch.autocast:
    """bfloat16 matrix products: 2.4 times as fast for convolutions on a CPU with AVX-512 BF16."""
    return torch.autocast("cpu", dtype=torch.bfloat16)


def smooth(targets: Tensor, amount: float = 0.1) -> Tensor:
    """Label smoothing of (B, classes) targets."""
    return targets * (1 - amount) + amount / targets.shape[-1]


def teacher_validation(library: Library) -> Validate[ConvTagger]:
    """Accuracy of a teacher on the recorded and on all clips."""
    return lambda module: accuracy(library, lambda log_mel: module(log_mel))


def encoder_validation(library: Library) -> Validate[GuidedEncoder]:
    """Accuracy of a guided encoder's tagging head on the recorded and on all clips."""
    return lambda module: accuracy(library, lambda log_mel: module(log_mel)[1].mean(1))


@torch.inference_mode()
def accuracy(library: Library, logits_of: Callable[[Tensor], Tensor]) -> Metrics:
    """Share of clips whose most probable class is right: of all, and of ESC-50 among its classes' clips."""
    right = [
        bool(hit)
        for log_mel, targets in _plain_batches(library, 64)
        for hit in logits_of(log_mel).argmax(-1) == targets.argmax(-1)
    ]
    recorded = [hit for hit, clip in zip(right, library.clips, strict=True) if clip.corpus == "esc50"]
    return {"accuracy": float(np.mean(right)), "accuracy_esc50": float(np.mean(recorded))}


def _plain_batches(library: Library, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(library.clips), size):
        clips = list(range(start, min(start + size, len(library.clips))))
        yield library.log_mels[0, clips].float(), targets_of(library, clips)
