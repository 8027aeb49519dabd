"""Audio tokens without their repetitions: what an encoder says about one clip, kept small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from alm.engines.base import Float32, Int64


@dataclass(frozen=True, eq=False)
class AudioTokens:
    """The audio tokens of one clip as runs of equal rows.

    Of the 129 audio tokens of full-size Mellow 33 differ, each frame's coming four times in a row: 76 KB are kept
    in place of 297. A model that repeats nothing loses nothing but the counts.
    """

    rows: Float32
    """The rows (runs, width), no two neighbours equal."""
    repeats: Int64
    """How often each row comes (runs,), at least once."""

    @classmethod
    def of(cls, tokens: Float32) -> Self:
        """Keep the audio tokens (audio_tokens, width), which may then be freed."""
        # Compared as bits, so that what comes back is the same to the last of them, NaN and -0 included.
        bits = np.ascontiguousarray(tokens, np.float32).view(np.uint32)
        starts = np.flatnonzero(np.append(True, (bits[1:] != bits[:-1]).any(axis=1)))
        return cls(tokens[starts], np.diff(starts, append=len(tokens)).astype(np.int64))

    def expand(self) -> Float32:
        """All audio tokens (audio_tokens, width), as the decoder reads them."""
        return np.repeat(self.rows, self.repeats, axis=0)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the rows and counts take."""
        return self.rows.nbytes + self.repeats.nbytes
