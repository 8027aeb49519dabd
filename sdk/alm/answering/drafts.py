"""Drafts: a guess at the answer is checked in one pass of the decoder, and the part that holds is kept.

Decoding greedily costs one pass per token. A draft, such as what was said about the sound just before, gives in one
pass the logits after each of its tokens, and every token of it that greedy decoding would have chosen costs a
fraction (speculative decoding, Leviathan et al. 2023, arXiv 2211.17192, with a text in place of the small model).

An answer is the same with a draft and without one. What a pass over several rows computes differs from single
steps by a little, though, and its keys and values stay in the cache. So a choice that such a difference could turn
is not made from it: there the tokens so far are run again one by one, and the rest is decoded without the draft.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alm.engines.base import Decoder, Float32, KVCache

CLEAR = 0.1
"""A choice is clear when the first logit is this many standard deviations of all logits above the second. Batches
moved that distance by 0.061 at most, over 2688 choices of two int4 packages on x86-64."""
CLEAR_BY_SCHEME = {"int8": 0.75, "uint8": 0.75}
"""Schemes with one activation scale for all rows of a batch: there it moved by 0.51 at most, over 1944 choices."""

CHUNK = 16
"""Tokens of a draft run at a time: the price of four single steps, so a draft that fails costs little."""

WORTH = 4
"""Tokens of a draft that must hold to be kept as they were computed. Fewer are run again at once, which costs less
than having to run the whole answer again at a later choice that is not clear, as one in twenty is not."""


class Continuation:
    """The logits along an answer that continues the sequence in a cache, as greedy decoding needs them."""

    def __init__(self, decoder: Decoder, cache: KVCache, draft: Sequence[int] = (), clear: float = CLEAR) -> None:
        """`draft` holds ids that may follow, no more than the cache has room for; without one every token is run by
        itself, which suits any sampling. `clear` is the distance in standard deviations that makes a choice clear.
        """
        self._decoder = decoder
        self._cache = cache
        self._draft = list(draft)
        self._start = cache.length
        self._taken: list[int] = []
        self._rows: list[Float32] = []
        self._clear = clear
        self._exact = True

    def after(self, token: int) -> Float32:
        """The logits (vocabulary,) once `token` has followed the tokens before it."""
        place = len(self._taken)
        self._taken.append(token)
        if place < len(self._draft) and token == self._draft[place]:
            logits = self._drafted(place)
        else:
            if place < WORTH and not self._exact:
                return self._again()
            self._drop_draft()
            self._cache.rewind(self._start + place)
            logits = self._step(token)
        return logits if self._exact or is_clear(logits, self._clear) else self._again()

    def _drafted(self, place: int) -> Float32:
        if not self._rows:
            chunk = self._draft[place : place + CHUNK]
            self._rows.extend(self._cache.append_all(self._embed(chunk)))
            self._exact = False
        return self._rows.pop(0)

    def _step(self, token: int) -> Float32:
        return self._cache.append(self._embed([token]))

    def _again(self) -> Float32:
        """Run all tokens so far one by one, as they would have been without a draft."""
        self._drop_draft()
        self._cache.rewind(self._start)
        self._exact = True
        return [self._step(token) for token in self._taken][-1]

    def _drop_draft(self) -> None:
        self._draft.clear()
        self._rows.clear()

    def _embed(self, ids: Sequence[int]) -> Float32:
        return self._decoder.embed(np.array(ids, dtype=np.int64))


def is_clear(logits: Float32, clear: float) -> bool:
    """Whether the likeliest id leads by more than `clear` standard deviations of the logits (vocabulary,)."""
    second, first = np.partition(logits, -2)[-2:]
    return bool(first - second > clear * logits.std())
