"""What the captioner says about recordings, none of which it heard in training."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from tokenizers import Tokenizer

from alm_train.contrastive.evaluate import Share, share
from alm_train.data.library import Clip
from alm_train.data.sounds import SOUNDS
from alm_train.models.clapcap import ClapCap
from alm_train.models.decoding import beam_search

SHORT = 4
"""Words are compared by this many first letters: `crowing` names a crow."""
WIDE = frozenset({"person", "people", "being", "sound", "with"})
"""Words that belong to many classes."""
MOST_TOKENS = 32
EXAMPLES = 20


@dataclass(frozen=True)
class Captioned:
    """Captions of held-out recordings."""

    named: Share
    """Captions with a word of their recording's class name."""
    named_by_chance: Share
    """The same captions, each beside another recording's class."""
    distinct: float
    """Different captions over all captions."""
    examples: tuple[tuple[str, str], ...]
    """Class and caption of some recordings, evenly spread."""

    def to_json(self) -> str:
        """As stored beside the weights."""
        return json.dumps(asdict(self), indent=1) + "\n"


@torch.inference_mode()
def caption_clips(captioner: ClapCap, tokenizer: Tokenizer, clips: Sequence[Clip]) -> Captioned:
    """Caption every clip by beam search through the audio tower and look for the words of its class."""
    texts = [_caption(captioner, tokenizer, clip) for clip in clips]
    labels = [clip.label for clip in clips]
    others = np.random.default_rng(0).permutation(len(labels))
    spread = np.linspace(0, len(clips) - 1, min(EXAMPLES, len(clips))).astype(int)
    return Captioned(
        named=share(np.array([_names(t, label) for t, label in zip(texts, labels, strict=True)])),
        named_by_chance=share(np.array([_names(t, labels[i]) for t, i in zip(texts, others, strict=True)])),
        distinct=len(set(texts)) / len(texts),
        examples=tuple((labels[i], texts[i]) for i in spread),
    )


def _caption(captioner: ClapCap, tokenizer: Tokenizer, clip: Clip) -> str:
    frontend = captioner.config.encoder.frontend
    prefix = captioner.prefix(torch.from_numpy(clip.waveform(frontend)[None]))
    best = beam_search(captioner.gpt, prefix, captioner.config.stop_id, MOST_TOKENS)[0]
    return tokenizer.decode([token for token in best.tokens if token != captioner.config.stop_id]).strip()


def _names(text: str, label: str) -> bool:
    sound = SOUNDS[label]
    stems = {word[:SHORT] for word in _words(f"{label} {sound.name} {sound.phrase}") if word not in WIDE}
    return any(word[:SHORT] in stems for word in _words(text))


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"[a-z]+", text.lower().replace("_", " ")) if len(word) >= 3]
