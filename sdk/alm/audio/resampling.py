"""Sound to another rate, block by block."""

from __future__ import annotations

import numpy as np
import soxr

from alm.audio.source import Samples, checked_rate
from alm.errors import AudioError


class StreamResampler:
    """What `resample` makes of a whole waveform, as the blocks come in. One thread uses one at a time.

    Measured against the whole: the same number of samples and the same values to float32 rounding, however the
    sound is split. The filter looks ahead, so a sample comes out some milliseconds after it went in; `finish` gives
    out the last ones.
    """

    def __init__(self, sample_rate: int, new_rate: int) -> None:
        """From one rate in Hz to another (soxr, high quality). Equal rates hand blocks through as they are.

        Raises AudioError for rates outside 1 kHz to 1 MHz.
        """
        checked_rate(sample_rate, "sample_rate")
        checked_rate(new_rate, "new_rate")
        same = sample_rate == new_rate
        self._stream = None if same else soxr.ResampleStream(sample_rate, new_rate, 1, dtype="float32")
        self._finished = False

    def push(self, samples: Samples) -> Samples:
        """Take the next samples (n,), any n, and return those that are ready (m,). AudioError after `finish`."""
        return self._convert(samples, last=False)

    def finish(self) -> Samples:
        """The samples (m,) that were still to come. AudioError when called again."""
        return self._convert(np.empty(0, np.float32), last=True)

    def _convert(self, samples: Samples, last: bool) -> Samples:
        if self._finished:
            raise AudioError("this resampler is finished; start another one for more sound")
        self._finished = last
        if self._stream is None:
            return samples
        converted: Samples = self._stream.resample_chunk(samples, last=last)
        return converted
