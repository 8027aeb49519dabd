"""Text while tokens arrive: never half a character, never the beginning of a stop string."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

REPLACEMENT = "\ufffd"


class TextStream:
    """Hands out one (id, text) per token; the texts joined equal the decoded ids up to the first stop string.

    A token whose text may still change (an incomplete UTF-8 sequence, or the beginning of a stop string) is
    held back until the next tokens settle it.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stop = tuple(stop)
        self._tokens: list[int] = []
        self._waiting: list[int] = []
        self._given = 0
        self.stopped = False

    def push(self, token: int) -> Iterator[tuple[int, str]]:
        """Take one more token, give out what is now certain. A complete stop string sets `stopped`."""
        self._tokens.append(token)
        self._waiting.append(token)
        text = self._decode(self._tokens)
        certain = text.removesuffix(REPLACEMENT)
        end = self._first_stop(certain)
        if end is not None:
            self.stopped = True
            yield from self._release(certain[:end], len(self._waiting))
            return
        certain = certain[: len(certain) - self._beginning_of_stop(certain)]
        # Whatever is held back must leave with a token, so the last one waits with it.
        yield from self._release(certain, len(self._waiting) - (len(certain) < len(text)))

    def finish(self) -> Iterator[tuple[int, str]]:
        """Give out everything that was held back, cut before a stop string."""
        text = self._decode(self._tokens)
        end = self._first_stop(text)
        yield from self._release(text if end is None else text[:end], len(self._waiting))

    def _release(self, text: str, count: int) -> Iterator[tuple[int, str]]:
        if count == 0:
            return
        ready, self._waiting = self._waiting[:count], self._waiting[count:]
        fresh, self._given = text[self._given :], len(text)
        for token in ready[:-1]:
            yield token, ""
        yield ready[-1], fresh

    def _first_stop(self, text: str) -> int | None:
        found = [at for stop in self._stop if (at := text.find(stop)) >= 0]
        return min(found, default=None)

    def _beginning_of_stop(self, text: str) -> int:
        """Length of the longest end of `text` that begins a stop string."""
        longest = max((len(stop) for stop in self._stop), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stop):
                return length
        return 0
