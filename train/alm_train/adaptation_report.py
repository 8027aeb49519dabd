"""What test-time adaptation changes, over seeds: accuracy before and after on sounds and voices of other domains."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from alm.adaptation import AdaptationSettings, Adapter
from alm_train.adaptation import PROMPT, TokenAdapter, TokenSettings, log_mel_views
from alm_train.checkpoints.weights import load_weights
from alm_train.contrastive.evaluate import embed_log_mels
from alm_train.contrastive.reading import read
from alm_train.data.library import Clip
from alm_train.data.measured import read_measured
from alm_train.models.clap import Clap
from alm_train.models.frontend import LogMel
from alm_train.run import Reporter

VOICES = ("ravdess", "tess_oaf", "urdu_dev")
"""Corpora whose labels are emotions."""
SOUNDS = ("us8k_fold1", "us8k_fold2")
"""Source and target of the domain pair."""
LEARNED_FROM = 5
"""Unlabelled clips of the source domain from which a vector is learned that is then kept."""


@dataclass(frozen=True)
class Change:
    """One form of adaptation on one corpus."""

    corpus: str
    """Where the clips are from."""
    form: str
    """`additive` (numpy) or `tokens` (PyTorch)."""
    setting: str
    """`each clip` starts anew; `from us8k_fold1` keeps a vector learned from a few of its clips."""
    before: tuple[float, ...]
    """Accuracy without adaptation, for each seed, which draws the clips and the views."""
    after: tuple[float, ...]
    """Accuracy with it."""

    @property
    def gains(self) -> np.ndarray:
        """(seeds,) percentage points."""
        return 100 * (np.array(self.after) - np.array(self.before))


@dataclass(frozen=True)
class Heard:
    """Clips of a corpus as views in the joint space."""

    corpus: str
    """Name of the corpus."""
    classes: tuple[str, ...]
    """Its labels."""
    truth: np.ndarray
    """(clips,) places in `classes`."""
    views: Tensor
    """(clips, V, E) unit embeddings, the clip itself first."""


def measure_adaptation(
    weights: str, data: Path, seeds: int, clips: int, views: int, reporter: Reporter
) -> list[Change]:
    """Classify `clips` clips of every corpus under `data`, drawn anew for each seed, with and without adaptation."""
    loaded = load_weights(weights, "clap")
    clap, tokenizer = loaded.model, Tokenizer.from_str(loaded.tokenizer)
    assert isinstance(clap, Clap)
    outcomes: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for seed in range(seeds):
        with reporter.bar(f"seed {seed}: listen") as progress:
            heard = {}
            for place, corpus in enumerate((*SOUNDS, *VOICES)):
                heard[corpus] = _hear(clap, data, corpus, clips, views, seed)
                progress(place + 1, len(SOUNDS) + len(VOICES))
        for corpus, group in heard.items():
            _note(outcomes, (corpus, "additive", "each clip"), _additive(clap, tokenizer, group))
            _note(outcomes, (corpus, "tokens", "each clip"), _tokens(clap, tokenizer, group))
        source, target = (heard[corpus] for corpus in SOUNDS)
        few = source.views[:LEARNED_FROM]
        setting = f"from {LEARNED_FROM} clips of {source.corpus}"
        _note(outcomes, (target.corpus, "additive", setting), _additive(clap, tokenizer, target, few))
        _note(outcomes, (target.corpus, "tokens", setting), _tokens(clap, tokenizer, target, few))
    return [
        Change(*key, before=tuple(b for b, _ in pairs), after=tuple(a for _, a in pairs))
        for key, pairs in outcomes.items()
    ]


def _note(outcomes: dict, key: tuple[str, str, str], pair: tuple[float, float]) -> None:
    outcomes.setdefault(key, []).append(pair)


def _hear(clap: Clap, data: Path, corpus: str, count: int, views: int, seed: int) -> Heard:
    every = read_measured(data, corpus)
    chosen = np.random.default_rng([seed, len(corpus)]).permutation(len(every))[:count]
    classes = tuple(sorted({clip.label for clip in every}))
    frontend = clap.config.encoder.frontend
    log_mel = LogMel(frontend)
    generator = torch.Generator().manual_seed(seed)
    rows = [_views(clap, log_mel, every[i], views, generator) for i in chosen]
    truth = np.array([classes.index(every[i].label) for i in chosen])
    return Heard(corpus, classes, truth, torch.stack(rows))


@torch.inference_mode()
def _views(clap: Clap, log_mel: LogMel, clip: Clip, views: int, generator: torch.Generator) -> Tensor:
    waveform = torch.from_numpy(clip.waveform(clap.config.encoder.frontend)[None])
    return embed_log_mels(clap, log_mel_views(log_mel(waveform)[0], views, generator)).clone()


def _named(heard: Heard) -> list[str]:
    """What a class is called in a prompt."""
    wording = "{} speech" if heard.corpus in VOICES else "{}"
    return [wording.format(name.replace("_", " ")) for name in heard.classes]


def _additive(clap: Clap, tokenizer: Tokenizer, heard: Heard, few: Tensor | None = None) -> tuple[float, float]:
    """Accuracy before and after; `few` clips of another domain teach a vector that is then kept."""
    texts = read(clap.caption_encoder, tokenizer, [f"{PROMPT} {name}" for name in _named(heard)], clap.config).numpy()
    scale = clap.logit_scale.exp().item()
    plain = Adapter(AdaptationSettings(steps=0))
    before = [plain.classify(views.numpy(), texts, scale) for views in heard.views]
    if few is None:
        adapter = Adapter(AdaptationSettings())
    else:
        teacher = Adapter(AdaptationSettings(carry=True))
        for views in few:
            teacher.classify(views.numpy(), texts, scale)
        adapter = Adapter(AdaptationSettings(carry=True, steps=0))
        adapter.vector = teacher.vector
    after = [adapter.classify(views.numpy(), texts, scale) for views in heard.views]
    return _accuracy(before, heard.truth), _accuracy(after, heard.truth)


def _tokens(clap: Clap, tokenizer: Tokenizer, heard: Heard, few: Tensor | None = None) -> tuple[float, float]:
    """As `_additive`, with token vectors."""
    adapter = TokenAdapter(clap, tokenizer, _named(heard), TokenSettings())
    clean = heard.views[:, :1]
    with torch.no_grad():
        before = adapter.probabilities(clean, adapter.texts())[:, 0]
    if few is not None:
        adapter.adapt(few)
        with torch.no_grad():
            after = adapter.probabilities(clean, adapter.texts())[:, 0]
    else:
        after = torch.stack([_adapted(adapter, views) for views in heard.views])
    return _accuracy(before.numpy(), heard.truth), _accuracy(after.numpy(), heard.truth)


def _adapted(adapter: TokenAdapter, views: Tensor) -> Tensor:
    adapter.reset()
    adapter.adapt(views[None])
    with torch.no_grad():
        return adapter.probabilities(views[None, :1], adapter.texts())[0, 0]


def _accuracy(probabilities: Sequence[np.ndarray] | np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean(np.argmax(np.asarray(probabilities), axis=1) == truth))


def as_markdown(changes: Sequence[Change]) -> str:
    """A table: accuracies in %, their change in points as mean, standard deviation and range over seeds."""
    lines = ["| corpus | form | vector | before | after | change | over seeds |", "|---|---|---|---|---|---|---|"]
    for change in changes:
        gains = change.gains
        lines.append(
            f"| {change.corpus} | {change.form} | {change.setting} | {100 * np.mean(change.before):.1f} | "
            f"{100 * np.mean(change.after):.1f} | {gains.mean():+.1f} ± {gains.std(ddof=min(1, len(gains) - 1)):.1f} | "
            f"{gains.min():+.1f} to {gains.max():+.1f} |"
        )
    return "\n".join(lines)


def as_json(changes: Sequence[Change]) -> str:
    """Everything that was measured."""
    return json.dumps([asdict(change) for change in changes], indent=1) + "\n"
