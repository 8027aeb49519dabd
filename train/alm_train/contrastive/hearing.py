"""Last stage: the audio tower learns to point where the finished text tower points.

The text tower is frozen ("locked", as Zhai et al. 2022 lock the image tower): texts keep the places that they were
given by reading, so that a class which no clip ever showed has a place as well. Half of the batch are classes and
half are pairs of a clean clip and a spoilt copy, which the two prompts of PAM must tell apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from alm_train.augment import Augmentation, augment
from alm_train.contrastive.degrade import CLEAN, DEGRADATIONS, SPOILT
from alm_train.contrastive.reading import read
from alm_train.contrastive.recipe import HearingSection
from alm_train.contrastive.spoilt import Spoilt
from alm_train.contrastive.wording import class_prompt, label_texts
from alm_train.data.library import Library
from alm_train.data.sounds import LABELS
from alm_train.loop import Loss, Metrics, Validate
from alm_train.models.clap import Clap
from alm_train.models.two_towers import unit
from alm_train.tagging import Batches, GuidedEncoder, half_precision, smooth
from alm_train.teacher import ConvTagger, guide_map

MOST = 4.6
"""Upper bound of the log of the similarity scale (100), as in CLIP."""
MILD = Augmentation(mixup=0.0, background=0.0, lowpass=0.0, time_masks=1, mel_masks=0)
"""What a pair goes through: nothing that would itself sound like an artifact."""


class Listener(nn.Module):
    """A CLAP whose text tower is frozen, and the map from its final audio tokens to the teacher's channels."""

    def __init__(self, clap: Clap, channels: int) -> None:
        super().__init__()
        self.clap = clap
        clap.caption_encoder.requires_grad_(False)
        self.guided = GuidedEncoder(clap.audio_encoder.base.htsat, channels)

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, mels) to unit embeddings (B, E), final tokens (B, tokens, width), tagging logits (B, classes)."""
        tokens, tags = self.guided(log_mel)
        embedding = self.clap.audio_encoder.projection(tokens.mean(1))
        return unit(embedding.float()), tokens, tags.float().mean(1)

    def scale(self) -> Tensor:
        """Factor of a cosine."""
        return self.clap.logit_scale.clamp(max=MOST).exp()


@dataclass(frozen=True)
class Signposts:
    """Where the text tower puts what is said about the clips."""

    labels: tuple[str, ...]
    """The classes that are heard."""
    wordings: tuple[Tensor, ...]
    """For each class (wordings, E) unit vectors."""
    prompts: Tensor
    """(classes, E): the zero-shot prompt of each class."""
    quality: Tensor
    """(2, E): clean, spoilt."""
    kinds: Tensor
    """(1 + kinds, E): clean, then each way to be spoilt."""

    def pick(self, generator: torch.Generator) -> Tensor:
        """(classes, E): one wording of each class."""
        return torch.stack([w[torch.randint(len(w), (1,), generator=generator)[0]] for w in self.wordings])


def put_up(clap: Clap, tokenizer: Tokenizer, labels: tuple[str, ...]) -> Signposts:
    """Read every wording with the finished text tower."""

    def vectors(texts: list[str]) -> Tensor:
        return read(clap.caption_encoder, tokenizer, texts, clap.config).clone()

    clap.caption_encoder.eval()
    return Signposts(
        labels=labels,
        wordings=tuple(vectors(list(label_texts(label))) for label in labels),
        prompts=vectors([class_prompt(label) for label in labels]),
        quality=vectors([CLEAN, SPOILT]),
        kinds=vectors([CLEAN, *(d.text for d in DEGRADATIONS.values())]),
    )


def hearing_loss(
    batches: Batches,
    spoilt: Spoilt,
    signposts: Signposts,
    teacher: ConvTagger,
    settings: Augmentation,
    section: HearingSection,
) -> Loss[Listener]:
    """Classes against their wordings, guided by the teacher, plus clean clips against spoilt copies."""
    columns = torch.tensor([LABELS.index(label) for label in signposts.labels])

    def loss(module: Listener, step: int, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        log_mel, targets = augment(*batches.at(step, generator), settings, generator)
        pairs, kinds = _pairs(batches.library, spoilt, section.pairs, generator)
        everything = torch.cat((log_mel, pairs))
        with half_precision():
            with torch.no_grad():
                seen = teacher.features(everything)
                taught = teacher.classify(seen[: len(log_mel)]).float()[:, columns].softmax(-1)
            embeddings, tokens, tags = module(everything)
        count = len(log_mel)
        targets = section.answers * taught + (1 - section.answers) * smooth(targets[:, columns])
        logits = module.scale() * embeddings[:count] @ signposts.pick(generator).T
        placing = F.cross_entropy(logits, targets)
        naming = F.cross_entropy(tags[:count], targets)
        quality = _quality_loss(module.scale() * embeddings[count:], signposts, kinds)
        imitation = F.mse_loss(module.guided.imitation(tokens), _guide(module, seen))
        total = placing + section.naming * naming + section.quality * quality + section.features * imitation
        return total, {"placing": placing.item(), "quality": quality.item(), "imitation": imitation.item()}

    return loss


def _guide(module: Listener, seen: Tensor) -> Tensor:
    config = module.guided.htsat.config
    return guide_map(seen, (config.final_grid[0] // config.fold, config.positions))


def _pairs(library: Library, spoilt: Spoilt, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(2 * count, T, mels): clean clips, then their spoilt copies, changed alike; and the (count,) kinds."""
    clips = torch.randint(len(library.clips), (count,), generator=generator)
    copies = torch.randint(len(spoilt.kinds), (count,), generator=generator)
    both = torch.cat((library.log_mels[0, clips], spoilt.log_mels[copies, clips])).float()
    nothing = torch.zeros(2 * count, 1)
    return augment(both, nothing, MILD, generator)[0], spoilt.kinds[copies, clips]


def _quality_loss(scaled: Tensor, signposts: Signposts, kinds: Tensor) -> Tensor:
    """Clean or spoilt, which way, and each clean clip above its own copy."""
    count = len(kinds)
    answers = scaled @ signposts.quality.T
    truth = torch.cat((torch.zeros_like(kinds), torch.ones_like(kinds)))
    named = F.cross_entropy(scaled @ signposts.kinds.T, torch.cat((torch.zeros_like(kinds), 1 + kinds)))
    margin = answers[:, 0] - answers[:, 1]
    ranked = F.softplus(margin[count:] - margin[:count]).mean()
    return (F.cross_entropy(answers, truth) + named + ranked) / 3


def hearing_validation(library: Library, signposts: Signposts, spoilt: Spoilt) -> Validate[Listener]:
    """Zero-shot accuracy on held-out clips of the classes that are heard, and share of pairs ranked rightly."""
    known = [i for i, clip in enumerate(library.clips) if clip.label in signposts.labels]
    truth = torch.tensor([signposts.labels.index(library.clips[i].label) for i in known])

    @torch.inference_mode()
    def validate(module: Listener) -> Metrics:
        clean = torch.cat(
            [module(library.log_mels[0, part].float())[0] for part in torch.arange(len(library.clips)).split(64)]
        )
        copies = torch.cat([module(part.float())[0] for part in spoilt.log_mels[0].split(64)])
        right = (clean[known] @ signposts.prompts.T).argmax(1) == truth
        direction = signposts.quality[0] - signposts.quality[1]
        above = clean @ direction > copies @ direction
        return {"accuracy": right.float().mean().item(), "pairs_ranked": above.float().mean().item()}

    return validate
