"""What a captioner says about held-out recordings, and whether it names what sounds in them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from alm_train.captioner.grounding import HeardClips
from alm_train.captioner.writing import Writer
from alm_train.contrastive.evaluate import Naming, Share, embed_log_mels, name_clips, share
from alm_train.data.library import Clip
from alm_train.data.sounds import SOUNDS
from alm_train.loop import Metrics, Validate
from alm_train.models.clap import Clap
from alm_train.models.clapcap import ClapCap
from alm_train.models.decoding import beam_search
from alm_train.models.two_towers import unit

MEASURED = "esc50"
"""Corpus whose classes are looked for."""
MOST_TOKENS = 32
EXAMPLES = 20


@dataclass(frozen=True)
class Captioned:
    """Captions of held-out clips."""

    named: Share
    """Captions with a word that belongs to their clip's kind of sound and to no other kind."""
    named_by_chance: Share
    """The same captions, each beside the kind of a clip drawn from all that were captioned."""
    distinct: float
    """Different captions over all captions."""
    examples: tuple[tuple[str, str], ...]
    """Kind of sound and caption of some clips, evenly spread."""


@dataclass(frozen=True)
class Results:
    """Everything that is measured."""

    captions: dict[str, Captioned]
    """By whose clips: `seen` and `unseen` classes of ESC-50, other corpora by name. A run that heard nothing has only
    `esc50`."""
    text_only: dict[str, Captioned]
    """The same clips before the second stage; empty where there is none."""
    seen: tuple[str, ...]
    """Classes of ESC-50 that were heard."""
    unseen: tuple[str, ...]
    """Classes of ESC-50 that were kept out; empty where nothing was heard."""
    naming: tuple[Naming, ...]
    """The CLAP with the same towers and a support vector machine, asked for the class of the same clips."""

    def to_json(self) -> str:
        """As stored beside the weights."""
        return json.dumps(asdict(self), indent=1) + "\n"


@torch.inference_mode()
def listen(captioner: ClapCap, clips: Sequence[Clip]) -> Tensor:
    """(clips, embedding) unit vectors of the audio tower."""
    frontend = captioner.config.encoder.frontend
    waveforms = (torch.from_numpy(clip.waveform(frontend)[None]) for clip in clips)
    return unit(torch.cat([captioner.clap(waveform) for waveform in waveforms]))


@torch.inference_mode()
def captions_from(writer: Writer, tokenizer: Tokenizer, vectors: Tensor) -> list[str]:
    """A caption by beam search for each of (clips, embedding) unit vectors."""
    stop, texts = writer.config.stop_id, []
    for prefix in writer.mapper.from_vector(vectors).split(1):
        best = beam_search(writer.gpt, prefix, stop, MOST_TOKENS)[0]
        texts.append(tokenizer.decode([token for token in best.tokens if token != stop]).strip())
    return texts


def naming_validation(vectors: Tensor, labels: Sequence[str], tokenizer: Tokenizer) -> Validate[Writer]:
    """Share of captions of held-out clips that name their sound."""

    def validate(module: Writer) -> Metrics:
        return {"validation_named": judge(captions_from(module, tokenizer, vectors), labels).named.share}

    return validate


def evaluate_captioner(
    clap: Clap, tokenizer: Tokenizer, text_only: ClapCap, captioner: ClapCap, clips: HeardClips
) -> Results:
    """Caption every held-out clip before and after the second stage, and name it without words of one's own."""
    vectors = embed_log_mels(clap, clips.held_out.log_mels[0])
    recorded = {clip.label for clip in clips.held_out.clips if clip.corpus == MEASURED}
    seen = tuple(label for label in clips.seen if label in recorded)
    unseen = tuple(label for label in clips.unseen if label in recorded)
    labels, groups = clips.held_out.labels, _groups(clips.held_out.clips, unseen)

    def captioned(model: ClapCap) -> dict[str, Captioned]:
        texts = captions_from(Writer(model), tokenizer, vectors)
        return {
            group: judge([texts[i] for i in places], [labels[i] for i in places], labels)
            for group, places in groups.items()
        }

    naming = name_clips(clap, tokenizer, clips.train, clips.held_out, vectors, seen, unseen)
    return Results(captioned(captioner), captioned(text_only), seen, unseen, naming)


def _groups(clips: Sequence[Clip], unseen: Sequence[str]) -> dict[str, list[int]]:
    """Places of the clips by whose they are."""
    groups: dict[str, list[int]] = {}
    for place, clip in enumerate(clips):
        group = clip.corpus if clip.corpus != MEASURED else "unseen" if clip.label in unseen else "seen"
        groups.setdefault(group, []).append(place)
    return groups


def judge(texts: Sequence[str], labels: Sequence[str], every: Sequence[str] | None = None) -> Captioned:
    """Look for the words of each clip's kind of sound in its caption; `every` is the kinds of all clips."""
    every = every or labels
    others = np.random.default_rng(0).choice(len(every), len(labels), replace=False)
    spread = np.linspace(0, len(texts) - 1, min(EXAMPLES, len(texts))).astype(int)
    return Captioned(
        named=share(np.array([names(text, label) for text, label in zip(texts, labels, strict=True)])),
        named_by_chance=share(np.array([names(text, every[i]) for text, i in zip(texts, others, strict=True)])),
        distinct=len(set(texts)) / len(texts),
        examples=tuple((labels[i], texts[i]) for i in spread),
    )


def names(text: str, label: str) -> bool:
    """Whether `text` holds a word that of all kinds of sound only `label` has: `water` names none of the waters."""
    return not OWN_WORDS[label].isdisjoint(_stems(text))


def _stems(text: str) -> set[str]:
    """Words without their common endings: `dripping` and `drips` are `drip`."""
    words = re.findall(r"[a-z]{3,}", text.lower().replace("_", " "))
    return {re.sub(r"(.)\1$", r"\1", re.sub(r"(?<=...)(ing|ed|es|s|e)$", "", word)) for word in words}


def _own_words() -> dict[str, frozenset[str]]:
    called = {label: _stems(f"{label} {sound.name}") for label, sound in SOUNDS.items()}
    said = {label: called[label] | _stems(f"{sound.phrase} {sound.sentence}") for label, sound in SOUNDS.items()}
    return {label: (_alone(label, called) | _alone(label, said)) - _stems(COMMON) for label in SOUNDS}


def _alone(label: str, words: dict[str, set[str]]) -> frozenset[str]:
    return frozenset(words[label].difference(*(words[other] for other in words if other != label)))


COMMON = "there people can be hand pass roll sing machine device pure low"
"""Words of one kind of sound that are said of many."""
OWN_WORDS = _own_words()
"""The words of each kind of sound that no other has."""
