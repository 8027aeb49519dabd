"""How every command of this project ends: done, one line that says why not, or interrupted."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from alm.errors import AlmError


def run(app: Callable[[], object], name: str, interrupted: str = "") -> None:
    """Run a command line; every failure becomes one line on stderr and an exit status, never a traceback.

    1 is failed work, 130 Ctrl-C, after which `interrupted` is said; `app` itself leaves with 2 for wrong usage.
    """
    _open_closed_streams(name)
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # here, where a full disk can still be told
    except (AlmError, KeyboardInterrupt) as error:
        if not _by_ctrl_c(error):
            _fail(name, str(error))
        if interrupted:
            print(f"{name}: {interrupted}", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader (such as `head`) has left. Python would complain while flushing stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except MemoryError:
        _fail(name, "out of memory; close other programs, or use a smaller scheme such as int4")
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at exit
            _fail(name, "no space is left where the output goes; free some and run it again")
        _fail(name, f"{type(error).__name__}: {error}. This is a defect; 'alm doctor --json' helps to report it")


def _open_closed_streams(name: str) -> None:
    """Standard streams that were closed before the start (`>&-`) are None, and later files would get their numbers."""
    closed = [stream for stream in ("stdin", "stdout", "stderr") if getattr(sys, stream) is None]
    for stream in closed:
        setattr(sys, stream, os.fdopen(os.open(os.devnull, os.O_RDWR), "r" if stream == "stdin" else "w"))
    if "stdout" in closed:
        _fail(name, "standard output is closed; send it to a file, or to /dev/null")


def _by_ctrl_c(error: BaseException | None) -> bool:
    """Whether Ctrl-C is at the bottom of it: pressed while a compiled library loads, it becomes an ImportError."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _fail(name: str, reason: str) -> NoReturn:
    print(f"{name}: " + " ".join(reason.split()), file=sys.stderr)
    sys.exit(1)
