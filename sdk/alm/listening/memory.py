"""Memory that stays flat for days: large blocks go back to the system when they are freed."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGE = 512 * 1024
"""Bytes from which a block is mapped by itself: a window of sound is larger, the logits of a token are not."""


def return_large_blocks() -> None:
    """Tell the C library of this process not to keep large blocks that were freed.

    glibc raises its own limit with the first large block that is freed, and keeps those that follow in pools with
    holes in them: watching then takes 20 MB more after half an hour than after a minute. It is the whole process's
    setting, so the commands make it and the SDK does not. Other C libraries have no such limit and nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_TRIM_THRESHOLD, LARGE)
