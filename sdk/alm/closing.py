"""What is closed when its `with` block ends."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Closing:
    """`with` for whatever has a `close`."""

    def close(self) -> None:
        """Let go; closing twice is fine."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
