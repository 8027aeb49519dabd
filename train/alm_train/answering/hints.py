"""What the decoder is told besides answers while it learns.

From answers alone it takes thousands of steps to find out that a word of the question has to be compared with
what was heard: until both halves work, neither is rewarded. Two hints reward each half by itself. Projected audio
rows are drawn towards the embeddings of the words for their sound, and where a question names a sound, a probe
has to say from that position whether it is heard. The probe is thrown away after training.
"""

from __future__ import annotations

import re

import torch
from tokenizers import Encoding, Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from alm_train.answering.initial import SCALE
from alm_train.data.questions import Question, inverted
from alm_train.data.sounds import LABELS, SOUNDS

COMMON = 3
"""A token that occurs in the words for more sounds than this says nothing about any of them."""


def telling_words(tokenizer: Tokenizer) -> Tensor:
    """(classes, vocabulary): for each sound an even distribution over the tokens that speak of it."""
    spoken = torch.zeros(len(LABELS), tokenizer.get_vocab_size())
    for row, label in enumerate(LABELS):
        sound = SOUNDS[label]
        for words in (sound.name, sound.phrase, sound.sentence):
            spoken[row, tokenizer.encode(f" {words}").ids] = 1
    own = spoken * (spoken.sum(0) <= COMMON)
    told = torch.where(own.sum(1, keepdim=True) > 0, own, spoken)
    return told / told.sum(1, keepdim=True)


def alignment_loss(rows: Tensor, embeddings: Tensor, labels: Tensor, words: Tensor) -> Tensor:
    """Cross-entropy of projected audio rows (B, R, width), read as words, against the words for their sound."""
    logits = F.linear(rows, embeddings).float() / SCALE
    targets = words[labels].unsqueeze(1).expand_as(logits)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(0, 1))


class PresenceProbe(nn.Module):
    """Reads from the decoder's state at a named sound whether it is heard."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.probe = nn.Linear(width, 1)

    def forward(self, states: Tensor, heard: Tensor) -> Tensor:
        """Mean binary cross-entropy of (N, width) states against (N,) truths; 0 for none."""
        if not len(heard):
            return states.new_zeros(())
        return F.binary_cross_entropy_with_logits(self.probe(states).float().squeeze(1), heard)


def mentions(question: Question, encoding: Encoding) -> list[tuple[int, str]]:
    """(index of the last token, label) of every sound that a question names."""
    found = []
    for label in question.asked:
        sound = SOUNDS[label]
        for words in (sound.sentence, inverted(sound.sentence), sound.phrase, sound.name):
            match = re.search(rf"\b{re.escape(words)}\b", question.text)
            if match:
                found.append((encoding.char_to_token(match.end() - 1), label))
                break
    return found
