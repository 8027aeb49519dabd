"""Stage three: the projection and the decoder learn to answer, on kept outputs of the frozen encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from alm_train.augment import Augmentation, augment
from alm_train.data.library import Library
from alm_train.data.questions import KINDS, TWO_CLIPS, Pair, Question, make_question
from alm_train.data.sounds import LABELS
from alm_train.loop import Loss, Metrics
from alm_train.models.htsat import HTSAT, HTSATOutput
from alm_train.models.mellow import Mellow
from alm_train.tagging import half_precision, targets_of

IGNORED = -100
KIND_SHARES = {"caption": 0.2, "choice": 0.3, "yes_no": 0.2, "entailment": 0.12, "difference": 0.1, "which": 0.08}


@dataclass(frozen=True)
class Heard:
    """What the frozen encoder makes of each view of each clip."""

    latent: Tensor
    """(views, clips, width)."""
    frames: Tensor
    """(views, clips, positions, classes)."""
    labels: tuple[str, ...]
    """Label of each clip."""

    def output(self, views: Tensor, clips: Tensor) -> HTSATOutput:
        """Encoder outputs of a batch of (view, clip) indices."""
        frames = self.frames[views, clips].float()
        return HTSATOutput(self.latent[views, clips].float(), frames.mean(1), frames)


@torch.inference_mode()
def hear(
    htsat: HTSAT,
    library: Library,
    views: int,
    settings: Augmentation,
    seed: int,
    progress: Callable[[int, int], None],
    batch: int = 64,
) -> Heard:
    """Encode `views` views of every clip: the first as recorded, the others augmented at random speeds."""
    htsat.eval()
    count = len(library.clips)
    latent, frames = [], []
    for view in range(views):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + view)
        order = torch.randperm(count, generator=generator)  # so that backgrounds come from any class
        outputs = []
        for clips in order.split(batch):
            outputs.append(_encode(htsat, library, clips, settings if view else None, generator))
            progress(view * count + sum(len(o.latent) for o in outputs), views * count)
        place = torch.argsort(order)
        latent.append(torch.cat([o.latent for o in outputs])[place].half())
        frames.append(torch.cat([o.frames for o in outputs])[place].half())
    return Heard(torch.stack(latent), torch.stack(frames), tuple(library.labels))


def _encode(
    htsat: HTSAT, library: Library, clips: Tensor, settings: Augmentation | None, generator: torch.Generator
) -> HTSATOutput:
    if settings is None:
        return htsat.encode(library.log_mels[0, clips].float())
    speeds = torch.randint(len(library.speeds), (len(clips),), generator=generator)
    log_mel = library.log_mels[speeds, clips].float()
    targets = targets_of(library, clips.tolist())
    with half_precision():
        return htsat.encode(augment(log_mel, targets, settings, generator)[0])


@dataclass(frozen=True)
class Asked:
    """A batch of questions about heard clips."""

    first: tuple[Tensor, Tensor]
    """(views, clips) of the first audio slot."""
    second: tuple[Tensor, Tensor]
    """The same of the second slot."""
    questions: tuple[Question, ...]
    """One per row."""


def ask(heard: Heard, count: int, seed: tuple[int, ...]) -> Asked:
    """`count` random questions: kinds by KIND_SHARES, sounds evenly, clips and views of a sound evenly."""
    rng = np.random.default_rng(seed)
    members = {label: [i for i, other in enumerate(heard.labels) if other == label] for label in set(heard.labels)}
    known = [label for label in LABELS if label in members]
    kinds = rng.choice(tuple(KIND_SHARES), count, p=tuple(KIND_SHARES.values()))
    questions, slots = [], []
    for kind in kinds:
        first = known[rng.integers(len(known))]
        clip = [rng.integers(len(heard.latent)), rng.choice(members[first])]
        other, second = clip, first
        if kind in TWO_CLIPS:
            second = first if rng.random() < 0.1 else known[rng.integers(len(known))]
            other = [rng.integers(len(heard.latent)), rng.choice(members[second])]
        slots.append([*clip, *other])
        questions.append(make_question(str(kind), rng, Pair(first, second)))
    view1, clip1, view2, clip2 = torch.tensor(np.array(slots)).T
    return Asked((view1, clip1), (view2, clip2), tuple(questions))


class Answerer(nn.Module):
    """The trained part of Mellow: everything but the encoder, which only enters through what it heard."""

    def __init__(self, mellow: Mellow, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.mellow = mellow.requires_grad_(True)
        self.mellow.audio_encoder.base.htsat.requires_grad_(False)
        self.tokenizer = tokenizer

    def prefix(self, heard: Heard, asked: Asked) -> Tensor:
        """(B, prefix_tokens, width) of a batch of questions."""
        mellow = self.mellow
        ids = torch.tensor([mellow.pad(self.tokenizer.encode(q.text).ids) for q in asked.questions])
        clips = [
            mellow.expand(mellow.audio_encoder.project(heard.output(*slot))) for slot in (asked.first, asked.second)
        ]
        return mellow.prefix(*clips, ids)

    def answer_ids(self, questions: tuple[Question, ...], longest: int) -> Tensor:
        """(B, T) answers with their stop token, IGNORED after it."""
        stop = self.mellow.config.stop_id
        rows = [torch.tensor([*self.tokenizer.encode(q.answer).ids, stop])[:longest] for q in questions]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=IGNORED)


def answering_loss(heard: Heard, batch: int, seed: int, longest: int) -> Loss:
    """Cross-entropy of the answers' tokens, every answer weighing the same."""

    def loss(module: nn.Module, step: int, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        assert isinstance(module, Answerer)
        asked = ask(heard, batch, (seed, step))
        answers = module.answer_ids(asked.questions, longest)
        mellow = module.mellow
        with half_precision():
            prefix = module.prefix(heard, asked)
            embedded = mellow.embed(answers.clamp(min=0)[:, :-1])
            hidden = mellow.caption_decoder.lm.model(torch.cat((prefix, embedded), 1), None)
            logits = F.linear(hidden[:, prefix.shape[1] - 1 :], mellow.caption_decoder.lm.model.embed_tokens.weight)
        losses = F.cross_entropy(
            logits.float().flatten(0, 1), answers.flatten(), ignore_index=IGNORED, reduction="none"
        )
        told = (answers != IGNORED).sum(1).clamp(max=4)
        per_answer = losses.reshape(answers.shape).sum(1) / told
        return per_answer.mean(), {kind: _mean(per_answer.detach(), asked, kind) for kind in KINDS}

    return loss


def _mean(per_answer: Tensor, asked: Asked, kind: str) -> float:
    chosen = torch.tensor([q.kind == kind for q in asked.questions])
    return float(per_answer[chosen].mean()) if chosen.any() else float("nan")


@torch.inference_mode()
def answer_all(module: Answerer, heard: Heard, asked: Asked, longest: int, batch: int = 64) -> list[str]:
    """Greedy answers to a batch of questions, as the runtime would give them."""
    texts: list[str] = []
    for rows in torch.arange(len(asked.questions)).split(batch):
        part = Asked(
            (asked.first[0][rows], asked.first[1][rows]),
            (asked.second[0][rows], asked.second[1][rows]),
            tuple(asked.questions[int(r)] for r in rows),
        )
        texts += _greedy(module, module.prefix(heard, part), longest)
    return texts


def _greedy(module: Answerer, prefix: Tensor, longest: int) -> list[str]:
    decoder = module.mellow.caption_decoder.lm
    stop = module.mellow.config.stop_id
    cache = decoder.new_cache()
    embeddings, columns = prefix, []
    finished = torch.zeros(len(prefix), dtype=torch.bool)
    for _ in range(longest):
        token = decoder(embeddings, cache)[:, -1].argmax(-1)
        columns.append(torch.where(finished, stop, token))
        finished |= token == stop
        if finished.all():
            break
        embeddings = module.mellow.embed(token[:, None])
    ids = torch.stack(columns, 1).tolist()
    return [module.tokenizer.decode(row, skip_special_tokens=True).strip() for row in ids]
