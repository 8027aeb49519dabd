"""Stage three: the projection and the decoder learn to answer, on kept outputs of the frozen encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from alm_train.answering.hints import PresenceProbe, alignment_loss, mentions, telling_words
from alm_train.augment import Augmentation, augment
from alm_train.data.library import Library
from alm_train.data.questions import KINDS, TWO_CLIPS, Pair, Question, make_question
from alm_train.data.sounds import LABELS
from alm_train.loop import Loss, Metrics
from alm_train.models.htsat import HTSAT, HTSATOutput
from alm_train.models.mellow import Mellow
from alm_train.tagging import half_precision, targets_of

IGNORED = -100
FIRST_SOUNDS = 6
KIND_SHARES = {"caption": 0.15, "choice": 0.3, "yes_no": 0.2, "entailment": 0.2, "difference": 0.15}


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


@dataclass(frozen=True)
class Lesson:
    """What is asked about at one time of the training."""

    sounds: tuple[str, ...]
    """Sounds that questions are about."""
    padding: float
    """Share of a question's free places that hold padding."""


def lesson_at(step: int, growth: int, seed: int) -> Lesson:
    """Few sounds and no padding at first, every sound after `growth` steps, full padding after twice as many.

    A judgement needs two things at once, a word of the question and what was heard. Learned on all sounds and
    among sixty places of padding, it is still at chance after a thousand steps; captions are not.
    """
    order = [LABELS[i] for i in np.random.default_rng(seed).permutation(len(LABELS))]
    known = FIRST_SOUNDS + round(min(1.0, step / growth) * (len(LABELS) - FIRST_SOUNDS))
    return Lesson(tuple(order[:known]), min(1.0, max(0.0, step / growth - 1)))


def ask(heard: Heard, count: int, seed: tuple[int, ...], sounds: Sequence[str] = LABELS) -> Asked:
    """`count` random questions: kinds by KIND_SHARES, `sounds` evenly, clips and views of a sound evenly."""
    rng = np.random.default_rng(seed)
    members = {label: [i for i, other in enumerate(heard.labels) if other == label] for label in set(heard.labels)}
    known = tuple(label for label in sounds if label in members)
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
        questions.append(make_question(str(kind), rng, Pair(first, second, tuple(sounds))))
    view1, clip1, view2, clip2 = torch.tensor(np.array(slots)).T
    return Asked((view1, clip1), (view2, clip2), tuple(questions))


class Answerer(nn.Module):
    """The trained part of Mellow: everything but the encoder, which only enters through what it heard."""

    def __init__(self, mellow: Mellow, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.mellow = mellow.requires_grad_(True)
        self.mellow.audio_encoder.base.htsat.requires_grad_(False)
        self.tokenizer = tokenizer
        self.presence = PresenceProbe(mellow.config.decoder.width)
        self.register_buffer("words", telling_words(tokenizer), persistent=False)

    def prefix(self, heard: Heard, asked: Asked) -> Tensor:
        """(B, prefix_tokens, width) of a batch of questions, as the runtime builds it."""
        ids = [self.mellow.pad(self.tokenizer.encode(q.text).ids) for q in asked.questions]
        return self._sequence(heard, asked, torch.tensor(ids))

    def lesson(self, heard: Heard, asked: Asked, padding: float, longest: int) -> tuple[Tensor, Tensor]:
        """Questions with their answers (B, positions, width), and what each position has to say next.

        The second tensor (B, positions) holds a token id where an answer is due and IGNORED elsewhere. With
        `padding` 1 the answer stands where the runtime puts it.
        """
        config = self.mellow.config
        rows, due = [], []
        for question in asked.questions:
            prompt = self.tokenizer.encode(question.text).ids[: config.prompt_tokens]
            prompt += [config.pad_id] * round(padding * (config.prompt_tokens - len(prompt)))
            answer = [*self.tokenizer.encode(question.answer).ids, config.stop_id][:longest]
            rows.append(torch.tensor(prompt + answer))
            due.append(torch.tensor([IGNORED] * len(prompt) + answer))
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=config.pad_id)
        said = nn.utils.rnn.pad_sequence(due, batch_first=True, padding_value=IGNORED)
        sequence = self._sequence(heard, asked, ids)
        silent = said.new_full((len(said), sequence.shape[1] - said.shape[1] - 1), IGNORED)
        end = said.new_full((len(said), 1), IGNORED)
        return sequence, torch.cat((silent, said, end), 1)

    def named(self, heard: Heard, asked: Asked) -> tuple[Tensor, Tensor, Tensor]:
        """Row, position in the sequence and presence (N,) of every sound that the questions name."""
        before = 2 * (self.mellow.config.audio_tokens + 1)
        places = []
        for row, question in enumerate(asked.questions):
            truth = heard.labels[int(asked.first[1][row])]
            for token, label in mentions(question, self.tokenizer.encode(question.text)):
                places.append((row, before + token, label == truth))
        rows, positions, present = torch.tensor(places, dtype=torch.long).reshape(-1, 3).T
        return rows, positions, present.float()

    def rows(self, heard: Heard, slot: tuple[Tensor, Tensor]) -> Tensor:
        """(B, 1 + positions, width) projected rows of one audio slot."""
        return self.mellow.audio_encoder.project(heard.output(*slot))

    def _sequence(self, heard: Heard, asked: Asked, ids: Tensor) -> Tensor:
        clips = [self.mellow.expand(self.rows(heard, slot)) for slot in (asked.first, asked.second)]
        return self.mellow.prefix(*clips, ids)


def answering_loss(heard: Heard, batch: int, seed: int, longest: int, growth: int) -> Loss[Answerer]:
    """Cross-entropy of the answers' tokens, every answer weighing the same, plus the hints."""

    def loss(module: Answerer, step: int, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        lesson = lesson_at(step, growth, seed)
        asked = ask(heard, batch, (seed, step), lesson.sounds)
        stack = module.mellow.caption_decoder.lm.model
        with half_precision():
            sequence, due = module.lesson(heard, asked, lesson.padding, longest)
            told = due != IGNORED
            states = stack(sequence, None)
            logits = F.linear(states[told], stack.embed_tokens.weight)
            rows, positions, present = module.named(heard, asked)
            presence = module.presence(states[rows, positions], present)
            labels = torch.tensor([LABELS.index(heard.labels[int(clip)]) for clip in asked.first[1]])
            aligned = alignment_loss(module.rows(heard, asked.first), stack.embed_tokens.weight, labels, module.words)
        losses = torch.zeros(due.shape)
        losses = losses.masked_scatter(told, F.cross_entropy(logits.float(), due[told], reduction="none"))
        per_answer = losses.sum(1) / told.sum(1).clamp(max=4)
        metrics = _per_kind(per_answer.detach(), asked.questions)
        hints = {"presence": presence.item(), "alignment": aligned.item()}
        return per_answer.mean() + presence + 0.3 * aligned, metrics | hints

    return loss


def _per_kind(per_answer: Tensor, questions: Sequence[Question]) -> Metrics:
    """Mean loss of each kind that was asked."""
    kinds = [q.kind for q in questions]
    return {k: float(per_answer[torch.tensor([k == kind for kind in kinds])].mean()) for k in KINDS if k in kinds}


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
