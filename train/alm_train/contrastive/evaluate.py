"""Scores of a small CLAP on held-out clips: naming by text, clean against spoilt, and against human listeners."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import pearsonr, spearmanr
from tokenizers import Tokenizer
from torch import Tensor

from alm_train.baselines import cepstral_posteriors
from alm_train.checkpoints.weights import load_weights
from alm_train.contrastive.clips import ClapClips
from alm_train.contrastive.degrade import CLEAN, SPOILT
from alm_train.contrastive.reading import read
from alm_train.contrastive.spoilt import KINDS
from alm_train.contrastive.wording import class_prompt
from alm_train.data.library import Clip, Library
from alm_train.data.measured import LISTENED, listening_scores
from alm_train.data.sounds import LABELS
from alm_train.models.clap import Clap
from alm_train.models.frontend import LogMel
from alm_train.models.two_towers import unit
from alm_train.statistics import wilson

NAMED = "esc50"
"""Corpus whose classes are named."""


@dataclass(frozen=True)
class Share:
    """Right cases of all."""

    right: int
    """Right cases."""
    total: int
    """All cases; at least one."""
    share: float
    """One over the other."""
    low: float
    """Lower end of the 95 % interval (Wilson)."""
    high: float
    """Upper end."""


def share(right: NDArray[np.bool_]) -> Share:
    """Count the cases that are `right`."""
    count = int(right.sum())
    return Share(count, len(right), count / len(right), *wilson(count, len(right)))


@dataclass(frozen=True)
class Naming:
    """One question asked about held-out clips: which of these classes is it?"""

    clips: str
    """Whose clips: `seen`, `unseen` or `all` classes."""
    options: str
    """Among which classes."""
    chance: float
    """One over the number of options."""
    clap: Share
    """By the similarity of clip and prompt."""
    svm: Share
    """By a support vector machine on cepstral statistics of the same training clips. It has no words, so a class it
    never heard is reached through the text tower: the mean of the prompts of the classes it hears, weighted by their
    probabilities, is compared with the prompts of the options (ConSE, Norouzi et al. 2014)."""


@dataclass(frozen=True)
class Results:
    """Everything that is measured."""

    seen: tuple[str, ...]
    """Classes of ESC-50 that were trained on."""
    unseen: tuple[str, ...]
    """Classes of ESC-50 that were kept out."""
    naming: tuple[Naming, ...]
    """Zero-shot classification of fold 4."""
    ranking: dict[str, dict[str, Share]]
    """By corpus and kind of degradation (`all` for their sum): pairs whose clean clip scores higher."""
    listening: dict[str, float]
    """Correlation of the score with mean MUSHRA ratings: Pearson's and Spearman's, over rated clips."""

    def to_json(self) -> str:
        """As stored beside the weights."""
        return json.dumps(asdict(self), indent=1) + "\n"


def evaluate_clap(folder: Path, clips: ClapClips, data: Path) -> Results:
    """Score the weights in `folder` as they are stored, in float16."""
    weights = load_weights(str(folder), "clap")
    clap, tokenizer = weights.model, Tokenizer.from_str(weights.tokenizer)
    assert isinstance(clap, Clap)
    clean = embed_log_mels(clap, clips.held_out.log_mels[0])
    spoilt = embed_log_mels(clap, clips.held_out_spoilt.log_mels[0])
    quality = read(clap.caption_encoder, tokenizer, [CLEAN, SPOILT], clap.config)
    recorded = {clip.label for clip in clips.held_out.clips if clip.corpus == NAMED}
    seen = tuple(label for label in clips.seen if label in recorded)
    unseen = tuple(label for label in clips.unseen if label in recorded)
    return Results(
        seen=seen,
        unseen=unseen,
        naming=name_clips(clap, tokenizer, clips.train, clips.held_out, clean, seen, unseen),
        ranking=_ranking(clips, (clean - spoilt) @ (quality[0] - quality[1])),
        listening=_listening(clap, quality, data),
    )


@torch.inference_mode()
def embed_log_mels(clap: Clap, log_mels: Tensor) -> Tensor:
    """(clips, T, mels) to (clips, E) unit vectors."""
    tower = clap.audio_encoder
    return torch.cat(
        [unit(tower.projection(tower.base.htsat.encode(part.float()).latent)) for part in log_mels.split(64)]
    )


def name_clips(
    clap: Clap,
    tokenizer: Tokenizer,
    train: Library,
    held_out: Library,
    embedded: Tensor,
    seen: tuple[str, ...],
    unseen: tuple[str, ...],
) -> tuple[Naming, ...]:
    """Ask for the classes of the ESC-50 clips in `held_out`, whose unit vectors are `embedded`."""
    labels = (*seen, *unseen)
    prompts = read(clap.caption_encoder, tokenizer, [class_prompt(label) for label in labels], clap.config)
    members = [i for i, clip in enumerate(held_out.clips) if clip.corpus == NAMED]
    truth = np.array([labels.index(held_out.clips[i].label) for i in members])
    by_clap = (embedded[members] @ prompts.T).numpy()
    posteriors = cepstral_posteriors(train, held_out.only(members))
    posteriors = posteriors[:, [LABELS.index(label) for label in seen]]
    by_text = posteriors @ (prompts[: len(seen)] @ prompts[len(seen) :].T).numpy()
    by_svm = np.concatenate((posteriors + 1, by_text), axis=1)  # what it hears itself goes before any cosine
    known = np.arange(len(labels)) < len(seen)
    questions = (("seen", known, "seen", known), ("all", known | True, "all", known | True))
    if unseen:
        questions += (("unseen", ~known, "unseen", ~known), ("unseen", ~known, "all", known | True))
    return tuple(
        Naming(
            clips=whose,
            options=among,
            chance=1 / int(options.sum()),
            clap=_share_right(by_clap, truth, asked, options),
            svm=_share_right(by_svm, truth, asked, options),
        )
        for whose, asked, among, options in questions
    )


def _share_right(
    scores: NDArray[np.float64], truth: NDArray[np.int64], asked: NDArray[np.bool_], options: NDArray[np.bool_]
) -> Share:
    """Clips of the `asked` classes whose best of the `options` is right."""
    rows = asked[truth]
    best = np.where(options, scores[rows], -np.inf).argmax(1)
    return share(best == truth[rows])


def _ranking(clips: ClapClips, above: Tensor) -> dict[str, dict[str, Share]]:
    right = (above > 0).numpy()
    kinds = clips.held_out_spoilt.kinds[0].numpy()
    corpora = np.array([clip.corpus for clip in clips.held_out.clips])
    rows = {corpus: corpora == corpus for corpus in dict.fromkeys(corpora)} | {"all": corpora != ""}
    return {
        corpus: {name: share(right[part]) for k, name in enumerate(KINDS) if (part := chosen & (kinds == k)).any()}
        | {"all": share(right[chosen])}
        for corpus, chosen in rows.items()
    }


@torch.inference_mode()
def _listening(clap: Clap, quality: Tensor, data: Path) -> dict[str, float]:
    """PAM's score of every rated clip against the mean of its ratings."""
    rated = listening_scores(data)
    frontend = clap.config.encoder.frontend
    log_mel = LogMel(frontend)
    waveforms = [Clip("speech", LISTENED, LISTENED, path).waveform(frontend) for path, _ in rated]
    embedded = embed_log_mels(clap, torch.cat([log_mel(torch.from_numpy(w[None])) for w in waveforms]))
    scores = (clap.logit_scale.exp() * embedded @ quality.T).softmax(1)[:, 0].numpy()
    ratings = np.array([rating for _, rating in rated])
    return {
        "clips": len(rated),
        "pearson": float(pearsonr(scores, ratings).statistic),
        "spearman": float(spearmanr(scores, ratings).statistic),
    }
