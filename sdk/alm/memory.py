"""What was freed goes back to the system. glibc alone keeps it; other C libraries have neither call."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGE = 512 * 1024
"""Bytes from which a block is mapped by itself: a window of sound is larger, the logits of a token are not."""


_LIBC = ctypes.CDLL(None)


def give_back() -> None:
    """Hand memory that was freed to the system now, in a few milliseconds: after work that took much of it once."""
    trim = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:
        trim(0)


def return_large_blocks() -> None:
    """Tell the C library of this process not to keep large blocks that were freed.

    glibc raises its own limit with the first large block that is freed, and keeps those that follow in pools with
    holes in them: watching then takes 20 MB more after half an hour than after a minute. It is the whole process's
    setting, so the commands make it and the SDK does not.
    """
    mallopt = getattr(_LIBC, "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_TRIM_THRESHOLD, LARGE)
