"""What quantization changes: the answers of PyTorch float32 held against those of a package.

Agreement is counted token by token along the float32 answer: after the same prefix and the same tokens so
far, does the package's decoder pick the same next one? That gives hundreds of decisions from a few dozen
clips, where the accuracy of whole answers gives a few dozen. Each component is also measured alone, the other
in float32, so that a gate knows which one costs what.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from alm.models.mellow import Mellow as PackagedMellow
from alm_quantize.probes import Probe
from alm_train.models.mellow import Mellow
from alm_train.statistics import wilson

ANSWER_TOKENS = 24
Float32 = NDArray[np.float32]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Answered:
    """A probe and what PyTorch float32 makes of it."""

    probe: Probe
    """The question."""
    prompt_ids: NDArray[np.int64]
    """(prompt_tokens,) padded."""
    audio: Float32
    """(audio_tokens, width)."""
    tokens: list[int]
    """Greedy answer, the stop token included."""
    logits: Float32
    """(len(tokens), vocabulary): before each token."""
    text: str
    """The answer as text."""


@dataclass(frozen=True)
class Score:
    """A share with its size and 95 % Wilson interval."""

    right: int
    """Decisions that agree, or answers that are right."""
    total: int
    """Decisions or answers in all."""

    @property
    def share(self) -> float:
        """right / total; 1 when nothing was asked."""
        return self.right / self.total if self.total else 1.0

    @property
    def loss(self) -> float:
        """The rest, rounded once only: 50 wrong of 1000 are within a budget of 0.05, and 1 - 0.95 is not."""
        return (self.total - self.right) / self.total if self.total else 0.0

    def to_dict(self) -> dict[str, float | int]:
        """For the manifest."""
        low, high = wilson(self.right, self.total)
        return {"share": round(self.share, 4), "n": self.total, "low": round(low, 4), "high": round(high, 4)}


@dataclass(frozen=True)
class Quality:
    """One comparison."""

    agreement: Score
    """Next-token decisions equal to float32."""
    divergence: float
    """Mean KL divergence of the next-token distribution from float32, in nats."""
    accuracy: Score
    """Right answers of the package, over the probes that have a right answer."""
    accuracy_float: Score
    """Right answers of PyTorch float32 on the same probes."""

    def to_dict(self) -> dict[str, object]:
        """For the manifest."""
        return {
            "agreement": self.agreement.to_dict(),
            "divergence_nats": round(self.divergence, 6),
            "accuracy": self.accuracy.to_dict(),
            "accuracy_fp32": self.accuracy_float.to_dict(),
        }


def answer_in_float(
    model: Mellow, package: PackagedMellow, probes: Sequence[Probe], progress: Progress | None = None
) -> list[Answered]:
    """Let PyTorch answer every probe greedily; the package lends its tokenizer only."""
    answered = []
    encoded: dict[str, torch.Tensor] = {}
    for done, probe in enumerate(probes):
        ids = package.reader.tokenizer.prompt(probe.question, truncate=True)
        with torch.inference_mode():
            if probe.clip not in encoded:
                encoded[probe.clip] = model.audio_tokens(torch.from_numpy(probe.samples)[None])
            audio = encoded[probe.clip]
            prefix = model.prefix(audio, audio, torch.from_numpy(ids)[None])
            tokens = model.generate(prefix, ANSWER_TOKENS)
            logits = _teacher_forced(model, prefix, tokens)
        text = package.reader.tokenizer.text(_before_stop(tokens, model.config.stop_id))
        answered.append(Answered(probe, ids, audio[0].numpy(), tokens, logits, text))
        if progress is not None:
            progress(done + 1, len(probes))
    return answered


def compare(
    package: PackagedMellow,
    answered: Sequence[Answered],
    *,
    component: str | None = None,
    model: Mellow | None = None,
    progress: Progress | None = None,
) -> Quality:
    """Hold a package against float32 answers.

    `component` "decoder" feeds the package's decoder with float32 audio tokens; "audio_encoder" feeds its
    audio tokens to the float32 decoder of `model`; None runs the package as it is.
    """
    encoded: dict[str, Float32] = {}
    agreeing = decisions = right = right_float = asked = 0
    divergence = 0.0
    for done, item in enumerate(answered):
        audio = item.audio
        if component != "decoder":
            if item.probe.clip not in encoded:
                encoded[item.probe.clip] = package.encode(item.probe.samples)["audio_tokens"]
            audio = encoded[item.probe.clip]
        if component == "audio_encoder":
            assert model is not None
            logits = _float_logits(model, audio, item)
        else:
            logits = _package_logits(package, audio, item)
        agreeing += int((logits.argmax(-1) == item.logits.argmax(-1)).sum())
        decisions += len(item.tokens)
        divergence += _kl(item.logits, logits)
        if item.probe.answer is not None:
            asked += 1
            right += _starts(package.reader.tokenizer.text([int(i) for i in logits.argmax(-1)]), item.probe.answer)
            right_float += _starts(item.text, item.probe.answer)
        if progress is not None:
            progress(done + 1, len(answered))
    return Quality(
        Score(agreeing, decisions),
        divergence / max(decisions, 1),
        Score(right, asked),
        Score(right_float, asked),
    )


def _teacher_forced(model: Mellow, prefix: torch.Tensor, tokens: list[int]) -> Float32:
    """Float32 logits (len(tokens), vocabulary) before each of `tokens`."""
    said = model.embed(torch.tensor([tokens[:-1]], dtype=torch.long))
    logits = model.caption_decoder.lm(torch.cat((prefix, said), 1))
    return logits[0, prefix.shape[1] - 1 :].numpy()


def _float_logits(model: Mellow, audio: Float32, item: Answered) -> Float32:
    with torch.inference_mode():
        tokens = torch.from_numpy(audio)[None]
        prefix = model.prefix(tokens, tokens, torch.from_numpy(item.prompt_ids)[None])
        return _teacher_forced(model, prefix, item.tokens)


def _package_logits(package: PackagedMellow, audio: Float32, item: Answered) -> Float32:
    reader = package.reader
    cache = reader.run_prefix((audio, audio))
    fed = [item.prompt_ids, *(np.array([token], np.int64) for token in item.tokens[:-1])]
    return np.stack([cache.append(reader.decoder.embed(ids)) for ids in fed])


def _kl(reference: Float32, other: Float32) -> float:
    """Sum over rows of KL(reference || other), in nats."""
    p, q = (torch.from_numpy(x).double().log_softmax(-1) for x in (reference, other))
    return float((p.exp() * (p - q)).sum())


def _before_stop(tokens: list[int], stop: int) -> list[int]:
    return tokens[: tokens.index(stop)] if stop in tokens else tokens


def _starts(text: str, answer: str) -> bool:
    return text.strip().startswith(answer)
