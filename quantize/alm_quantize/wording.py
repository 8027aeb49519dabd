"""What quantization changes in a captioner: its next-token decisions, held against PyTorch float32.

Decisions are counted along the float32 caption, as for Mellow (`alm_quantize.quality`). Each part is also measured
alone, the others in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alm.models.captioner_self_test import prefix_of
from alm.models.listener import Listener
from alm_quantize.gate import Assignment
from alm_quantize.quality import Score
from alm_train.models.decoding import greedy
from alm_train.models.gpt2 import GPT2LM

CAPTION_TOKENS = 16
Float32 = NDArray[np.float32]
Progress = Callable[[int, int], None]
MapFloat = Callable[[list[Tensor], NDArray[np.int64] | None], Tensor]
"""Embeddings (1, D) and prompt ids to the float32 prefix (1, tokens, width)."""


@dataclass(frozen=True)
class Captioned:
    """One clip, or one pair, and what PyTorch float32 says of it."""

    clips: tuple[str, ...]
    """Names of the clips."""
    prompt_ids: NDArray[np.int64] | None
    """The padded prompt, where the model takes one."""
    prefix: Float32
    """(tokens, width)."""
    tokens: list[int]
    """Greedy caption, the stop token included."""
    logits: Float32
    """(len(tokens), vocabulary): before each token."""


@dataclass(frozen=True)
class Wording:
    """One assignment of schemes and what it costs."""

    schemes: Assignment
    """Scheme name per part."""
    whole: Score
    """Decisions of the package that equal float32."""
    alone: Mapping[str, Score]
    """The same with one part of the package and the others in float32: `audio_encoder`, `mapper`, `decoder`."""

    @property
    def costs(self) -> Mapping[str, float]:
        """Decisions that each part costs. The head counts with the decoder and moves first, as for Mellow."""
        cost = {part: score.loss for part, score in self.alone.items()}
        return {**cost, "head": cost["decoder"] + 1e-9}

    @property
    def summary(self) -> str:
        """What the whole costs, in words."""
        return f"{self.whole.loss:.1%} of next-token decisions differ"

    def within(self, budget: float) -> bool:
        """Whether the share of decisions that differ is inside the budget."""
        return self.whole.loss <= budget


def caption_in_float(
    language: GPT2LM, prefix: Tensor, clips: tuple[str, ...], prompt_ids: NDArray[np.int64] | None, stop_id: int
) -> Captioned:
    """Let PyTorch go on from a prefix (1, tokens, width) greedily."""
    tokens = greedy(language, prefix, stop_id, CAPTION_TOKENS)
    return Captioned(clips, prompt_ids, prefix[0].numpy(), tokens, _forced(language, prefix, tokens))


def measure_wording(
    package: Listener,
    schemes: Assignment,
    captioned: Sequence[Captioned],
    sounds: Mapping[str, Float32],
    embeddings: Mapping[str, Float32],
    language: GPT2LM,
    map_float: MapFloat,
    progress: Progress,
) -> Wording:
    """Hold a package against float32. `sounds` and float32 `embeddings` are by name of clip."""
    heard = {name: package.encode(samples)["embedding"] for name, samples in sounds.items()}
    agreeing = dict.fromkeys(("whole", "audio_encoder", "mapper", "decoder"), 0)
    for done, item in enumerate(captioned):
        own, exact = ([source[name] for name in item.clips] for source in (heard, embeddings))
        mapped = prefix_of(package, exact, item.prompt_ids)
        with torch.inference_mode():
            from_heard = map_float([torch.from_numpy(row)[None] for row in own], item.prompt_ids)
            found = {
                "whole": _packaged(package, prefix_of(package, own, item.prompt_ids), item.tokens),
                "audio_encoder": _forced(language, from_heard, item.tokens),
                "mapper": _forced(language, torch.from_numpy(mapped)[None], item.tokens),
                "decoder": _packaged(package, item.prefix, item.tokens),
            }
        for part, logits in found.items():
            agreeing[part] += int((logits.argmax(-1) == item.logits.argmax(-1)).sum())
        progress(done + 1, len(captioned))
    total = sum(len(item.tokens) for item in captioned)
    whole, *alone = (Score(count, total) for count in agreeing.values())
    return Wording(schemes, whole, dict(zip(("audio_encoder", "mapper", "decoder"), alone, strict=True)))


def _forced(language: GPT2LM, prefix: Tensor, tokens: list[int]) -> Float32:
    """Float32 logits (len(tokens), vocabulary) before each of `tokens`."""
    with torch.inference_mode():
        said = language.embed(torch.tensor([tokens[:-1]], dtype=torch.long))
        logits = language(torch.cat((prefix, said), 1))[0, prefix.shape[1] - 1 :]
    forced: Float32 = logits.numpy()
    return forced


def _packaged(package: Listener, prefix: Float32, tokens: list[int]) -> Float32:
    decoder = package.reader.decoder
    cache = decoder.new_cache()
    rows = [cache.append(prefix)]
    rows += [cache.append(decoder.embed(np.array([token], np.int64))) for token in tokens[:-1]]
    return np.stack(rows)
