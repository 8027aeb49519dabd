"""The small byte-level BPE tokenizer of the reference model, trained on the recipe's own questions.

Byte level: any text encodes, whatever its script. As in the official model, id 0 is `<|endoftext|>` (it
separates clips and ends answers) and `!` is the pad token.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from alm_train.data.questions import KINDS, TWO_CLIPS, Pair, make_question
from alm_train.data.sounds import LABELS

STOP = "<|endoftext|>"
PAD = "!"


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """A tokenizer with at most `vocabulary` entries, ids stable for the same texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[STOP, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def template_texts(count: int, seed: int) -> list[str]:
    """Questions and answers of every kind about random pairs of sounds."""
    rng = np.random.default_rng(seed)
    texts = []
    for index in range(count):
        kind = tuple(KINDS)[index % len(KINDS)]
        first, second = (LABELS[i] for i in rng.integers(len(LABELS), size=2))
        question = make_question(kind, rng, Pair(first, second if kind in TWO_CLIPS else first))
        texts += [question.text, question.answer]
    return texts


def pad_id(tokenizer: Tokenizer) -> int:
    """Id of the pad token."""
    return int(tokenizer.token_to_id(PAD))
