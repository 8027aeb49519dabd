"""Keep freed memory inside the process while training."""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory() -> None:
    """Tell glibc to reuse large blocks instead of giving them back to the kernel after every operation.

    A training step allocates hundreds of blocks of many MB. By default each comes as fresh zeroed pages:
    measured on two cores, encoder steps in bfloat16 ran 2.4 times as fast without that. Other C libraries
    have no such switch and are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    for option, value in ((_M_MMAP_THRESHOLD, 1 << 30), (_M_TRIM_THRESHOLD, (1 << 31) - 1), (_M_TOP_PAD, 1 << 29)):
        mallopt(option, value)
