"""Python file objects for libsndfile, whose callbacks can neither raise nor be interrupted."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar

from alm.errors import AudioError

T = TypeVar("T")


class FileObject:
    """A binary file object, read from its start, that keeps the exceptions of its methods.

    An exception inside a callback would be printed and forgotten, Ctrl-C included, and the recording
    would silently end there. So each is kept, and `raise_kept` raises it once libsndfile has returned.
    """

    def __init__(self, file: Any, label: str) -> None:
        """Wrap `file`; one that cannot seek is read into memory. Raises AudioError when it has no bytes."""
        self.label = label  # a `name` would make soundfile guess a format from its ending
        self._kept: BaseException | None = None
        self._file: BinaryIO = file
        try:
            if file.seekable():
                file.seek(0)
                data = file.read(0)
            else:
                data = file.read()
                self._file = io.BytesIO(data)
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise AudioError(f"{label} cannot be read: {error}") from error
        if not isinstance(data, bytes):
            raise AudioError(f"{label} gives {type(data).__name__}, expected bytes; open the file in mode 'rb'")

    def raise_kept(self) -> None:
        """Raise what a callback could not: AudioError, or what was no Exception, such as KeyboardInterrupt."""
        kept, self._kept = self._kept, None
        if isinstance(kept, Exception):
            raise AudioError(f"{self.label} failed while being read: {kept}") from kept
        if kept is not None:
            raise kept

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of a binary file; 0 after a failure, which `raise_kept` raises later."""
        return self._keeping(lambda: self._file.seek(offset, whence), 0)

    def tell(self) -> int:
        """As of a binary file; 0 after a failure."""
        return self._keeping(self._file.tell, 0)

    def readinto(self, buffer: Any) -> int:
        """As of a binary file: how many bytes were read; 0 after a failure."""
        data = self._keeping(lambda: self._file.read(len(buffer)), b"")
        buffer[: len(data)] = data
        return len(data)

    def _keeping(self, action: Callable[[], T], otherwise: T) -> T:
        if self._kept is None:
            try:
                return action()
            except BaseException as error:
                self._kept = error
        return otherwise
