"""What every source of sound hands out, and what it must offer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from alm.audio.source import Samples

BLOCK_SECONDS = 0.1
"""Length of a block: ten a second cost next to nothing, and delay an event by less than anyone notices."""
BUFFER_SECONDS = 30.0
"""Sound that a live source keeps for a reader who is late: several answers of a small board."""


@dataclass(frozen=True, eq=False)
class Block:
    """Some consecutive samples."""

    samples: Samples
    """Mono samples (n,), n ≥ 1, finite, full scale ±1, at the rate of the source."""
    lost: int
    """Frames that were lost right before this block (nobody read in time, the device was gone)."""
    time: float
    """UNIX time in seconds at which the first sample was captured; NaN for a recording."""


class LiveSource(Protocol):
    """Sound that arrives block by block. Its blocks can be taken once."""

    @property
    def sample_rate(self) -> int:
        """Samples per second. Opens the source where it must be open to tell; raises AudioError."""

    @property
    def live(self) -> bool:
        """True where sound is lost when nobody reads in time, False where the source waits for its reader."""

    def blocks(self) -> Iterator[Block]:
        """Open on the first block, end with the input or after `close`. Raises AudioError, also the second time."""

    def close(self) -> None:
        """Let go of the device or file, from any thread; a reader that waits for a block ends soon."""
