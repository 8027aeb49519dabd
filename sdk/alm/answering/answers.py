"""What a session returns: plain frozen records, safe to keep after the session and the model are closed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "stop_string", "length"]


@dataclass(frozen=True)
class Piece:
    """One generated token while an answer streams."""

    text: str
    """The text that became certain with this token; empty while a character or stop string is incomplete."""
    token: int
    """The token's id."""
    seconds: float
    """Seconds from the question to this piece."""
    window: int
    """Which window of the recording is being answered, counted from 0."""


@dataclass(frozen=True)
class Timing:
    """Where the seconds of one answer went, summed over its windows."""

    encode: float
    """Spent once, in `listen` (audio decoding, encoder and audio prefix) or `alm.restore`; all questions share it."""
    prefill: float
    """Running the question (and any audio prefix that was not kept) through the decoder, waits for a turn included."""
    first_token: float
    """From the question to the first generated token."""
    decode: float
    """All seconds after prefill; in a stream these include what the caller does between pieces."""


@dataclass(frozen=True)
class WindowAnswer:
    """The answer about one window of a recording."""

    start: float
    """Seconds into the recording at which the window starts."""
    end: float
    """Seconds into the recording at which the window ends."""
    text: str
    """The generated text."""
    tokens: tuple[int, ...]
    """The generated ids, without the stop token."""
    finish_reason: FinishReason
    """`stop`: the model ended; `stop_string`: a string of `stop` came up; `length`: out of tokens."""


@dataclass(frozen=True)
class Answer:
    """The answer to one question about one clip or one pair of clips."""

    text: str
    """The generated text; for several windows one line per span of windows that agree, with its times."""
    tokens: tuple[int, ...]
    """The generated ids without stop tokens; the windows' ids one after the other."""
    timing: Timing
    """Where the time went."""
    finish_reason: FinishReason
    """The one window's reason; of several windows the first that is not `stop`."""
    windows: tuple[WindowAnswer, ...]
    """One answer per window, in order of time; at least one."""


@dataclass(frozen=True)
class Choice:
    """The option that a model finds likeliest."""

    text: str
    """The option as the caller wrote it."""
    index: int
    """Its place among the options."""
    probabilities: tuple[float, ...]
    """One per option, in the caller's order, summing to 1; the mean over the windows of a long recording."""


def answer_of(windows: tuple[WindowAnswer, ...], timing: Timing) -> Answer:
    """Join the answers of consecutive windows into one answer."""
    reasons = [window.finish_reason for window in windows if window.finish_reason != "stop"]
    return Answer(
        text=merged_text(windows),
        tokens=tuple(token for window in windows for token in window.tokens),
        timing=timing,
        finish_reason=reasons[0] if reasons else "stop",
        windows=windows,
    )


def merged_text(windows: tuple[WindowAnswer, ...]) -> str:
    """The text of one window as it is; of several, a line `[start - end s] text` per span that agrees."""
    if len(windows) == 1:
        return windows[0].text
    spans: list[tuple[float, float, str]] = []
    for window in windows:
        text = window.text.strip()
        if spans and spans[-1][2] == text:
            spans[-1] = (spans[-1][0], window.end, text)
        else:
            spans.append((window.start, window.end, text))
    return "\n".join(f"[{start:.1f} - {end:.1f} s] {text}" for start, end, text in spans)
