"""The part of ADIFF behind its audio encoder learns to explain, on kept outputs of that encoder.

The paper's three stages (arXiv 2502.04476, section 4): parts that learned alone, grounding with the language model
frozen, everything together. A language model this small knows no language to be grounded in, so it first learns to
answer from words that stand where the clips and the prompt will be; the mappers are then drawn towards those words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from alm_train.difference.wording import Heard, answer, prompt
from alm_train.loop import Loss, Metrics
from alm_train.models.adiff import Adiff
from alm_train.models.clap import SUFFIX
from alm_train.tagging import half_precision

SHARES = {"words": 0.24, "sentence": 0.2, "detail": 0.2, "first": 0.12, "second": 0.12, "both": 0.12}
"""How often each task is set."""
ALIKE = 0.1
"""Share of pairs of one kind of sound."""
IGNORED = -100
HINT = 1.0
"""Weight of the distance between a prefix and the words for it, in variances of an embedding."""


@dataclass(frozen=True)
class Ears:
    """Clips and what the frozen encoder makes of them."""

    latent: Tensor
    """(views, clips, width)."""
    clips: tuple[Heard, ...]
    """What sounds in each clip, and how."""

    def members(self) -> dict[str, list[int]]:
        """Clips of each label."""
        found: dict[str, list[int]] = {}
        for place, clip in enumerate(self.clips):
            found.setdefault(clip.label, []).append(place)
        return found


@dataclass(frozen=True)
class Lesson:
    """A batch of pairs with what is asked about them."""

    views: NDArray[np.int64]
    """(rows, 2) views of the two slots."""
    slots: NDArray[np.int64]
    """(rows, 2) clips of the two slots."""
    tasks: tuple[str, ...]
    """Keys of `TASKS`."""
    prompts: tuple[str, ...]
    """What is asked."""


def draw(ears: Ears, count: int, seed: tuple[int, ...]) -> Lesson:
    """`count` random lessons: tasks by SHARES, kinds of sound evenly, clips and views of a kind evenly."""
    rng = np.random.default_rng(seed)
    members = ears.members()
    labels = tuple(members)
    tasks = tuple(str(task) for task in rng.choice(tuple(SHARES), count, p=tuple(SHARES.values())))
    slots = []
    for _ in tasks:
        first = labels[rng.integers(len(labels))]
        second = first if rng.random() < ALIKE else labels[rng.integers(len(labels))]
        slots.append([rng.choice(members[first]), rng.choice(members[second])])
    views = rng.integers(len(ears.latent), size=(count, 2))
    return Lesson(views, np.array(slots), tasks, tuple(prompt(task, rng) for task in tasks))


class Explainer(nn.Module):
    """The trained part of ADIFF: everything but the encoder, which only enters through what it heard."""

    def __init__(self, adiff: Adiff, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.adiff = adiff.requires_grad_(True)
        self.adiff.audio_encoder.base.requires_grad_(False)
        self.tokenizer = tokenizer

    def prefix(self, ears: Ears, lesson: Lesson) -> Tensor:
        """(B, prefix_tokens, width), as the runtime builds it."""
        views, slots = torch.from_numpy(lesson.views), torch.from_numpy(lesson.slots)
        project = self.adiff.audio_encoder.projection
        first, second = (project(ears.latent[views[:, i], slots[:, i]].float()) for i in (0, 1))
        ids = [self.adiff.pad(self.tokenizer.encode(text + SUFFIX).ids) for text in lesson.prompts]
        return self.adiff.caption_decoder.prefix(first, second, torch.tensor(ids))

    def written(self, ears: Ears, lesson: Lesson) -> Tensor:
        """(B, prefix_tokens, width): the embeddings of words for both clips and of the prompt, each in its slot."""
        config = self.adiff.config
        rows = []
        for (one, two), text in zip(lesson.slots, lesson.prompts, strict=True):
            first, second = (self._words(ears.clips[place]) for place in (one, two))
            prompt_ids = self.adiff.pad(self.tokenizer.encode(text + SUFFIX).ids)
            rows.append([*first, config.separator_id, *second, *prompt_ids])
        return self.adiff.caption_decoder.gpt.embed(torch.tensor(rows))

    def _words(self, heard: Heard) -> list[int]:
        """Ids that describe a clip, again and again until its slot is full."""
        character, places = heard.character, self.adiff.config.slot_tokens
        ids = self.tokenizer.encode(f" {heard.sound.phrase} {character.pitch_word} {character.course}").ids
        return (ids * places)[:places]

    def loss(self, prefix: Tensor, answers: Sequence[str]) -> Tensor:
        """Mean cross-entropy of the answers' tokens and their end after (B, prefix_tokens, width)."""
        config, gpt = self.adiff.config, self.adiff.caption_decoder.gpt
        rows = [torch.tensor([*self.tokenizer.encode(text).ids, config.stop_id]) for text in answers]
        due = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=IGNORED)
        words = gpt.embed(due[:, :-1].clamp(min=0))
        hidden = gpt.transformer(torch.cat((prefix, words), 1))[:, prefix.shape[1] - 1 :]
        told = due != IGNORED
        return F.cross_entropy(F.linear(hidden[told], gpt.transformer.wte.weight).float(), due[told])


def writing_loss(ears: Ears, batch: int, seed: int) -> Loss[Explainer]:
    """First stage: answers from words, without any sound."""

    def loss(module: Explainer, step: int, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        lesson = draw(ears, batch, (seed, step))
        with half_precision():
            return module.loss(module.written(ears, lesson), answers_of(ears, lesson)), {}

    return loss


def explaining_loss(ears: Ears, batch: int, seed: int) -> Loss[Explainer]:
    """Later stages: answers from what is heard, and a hint at the words for it."""

    def loss(module: Explainer, step: int, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        lesson = draw(ears, batch, (seed, step))
        with half_precision():
            prefix = module.prefix(ears, lesson)
            answering = module.loss(prefix, answers_of(ears, lesson))
        words = module.written(ears, lesson).detach()
        hint = F.mse_loss(prefix.float(), words) / words.var()
        return answering + HINT * hint, {"answering": answering.item(), "hint": hint.item()}

    return loss


def answers_of(ears: Ears, lesson: Lesson) -> list[str]:
    """What is to be answered to each row of a lesson."""
    pairs = ((ears.clips[one], ears.clips[two]) for one, two in lesson.slots)
    return [answer(task, *pair) for task, pair in zip(lesson.tasks, pairs, strict=True)]


@torch.inference_mode()
def explain(module: Explainer, ears: Ears, lesson: Lesson, batch: int = 64) -> list[str]:
    """Greedy answers, as the runtime would give them."""
    texts: list[str] = []
    for start in range(0, len(lesson.tasks), batch):
        rows = slice(start, start + batch)
        part = Lesson(lesson.views[rows], lesson.slots[rows], lesson.tasks[rows], lesson.prompts[rows])
        texts += _greedy(module, module.prefix(ears, part))
    return texts


def _greedy(module: Explainer, prefix: Tensor) -> list[str]:
    config, gpt = module.adiff.config, module.adiff.caption_decoder.gpt
    cache = gpt.new_cache()
    embeddings, columns = prefix, []
    finished = torch.zeros(len(prefix), dtype=torch.bool)
    while not finished.all() and len(columns) < config.decoder.max_positions - config.prefix_tokens:
        token = gpt(embeddings, cache)[:, -1].argmax(-1)
        columns.append(torch.where(finished, config.stop_id, token))
        finished |= token == config.stop_id
        embeddings = gpt.embed(token[:, None])
    rows = torch.stack(columns, 1).tolist()
    return [module.tokenizer.decode([i for i in row if i != config.stop_id]).strip() for row in rows]
