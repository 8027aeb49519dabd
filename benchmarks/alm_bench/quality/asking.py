"""What a model is asked about one clip, and what it said: plain records that travel between processes.

A piece of work is everything about one clip (or pair), so that it is read and encoded once.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import alm
from alm.answering.choosing import options_prompt
from alm.models import Model
from alm.models.clapcap import BEAMS
from alm.session import Clip

CAPTION_TOKENS = 32
"""Most tokens of a caption that is put before a hypothesis: both have to fit into the prompt."""


@dataclass(frozen=True)
class Question:
    """One thing to ask."""

    id: str
    """Names the answer."""
    kind: str
    """Key of `KINDS`."""
    text: str = ""
    """What is asked, or the text to embed."""
    options: tuple[str, ...] = ()
    """What to choose from."""


@dataclass(frozen=True)
class Work:
    """All questions about one clip."""

    sources: tuple[str, ...]
    """One recording, or two to compare."""
    questions: tuple[Question, ...]
    """What is asked about it."""

    def key(self, package: str) -> str:
        """Names this work on the package with this hash; other questions or another file make another name."""
        sizes = [Path(source).stat().st_size for source in self.sources]
        text = json.dumps([package, sizes, asdict(self)])
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Done:
    """What came of one piece of work."""

    work: Work
    """What was asked."""
    said: dict[str, Any] = field(default_factory=dict)
    """Answers by question."""
    failed: dict[str, str] = field(default_factory=dict)
    """Why there is no answer, by question."""

    @classmethod
    def nothing(cls, work: Work, reason: str) -> Done:
        """Nothing was answered."""
        return cls(work, {}, {question.id: reason for question in work.questions})


def answer(package: str, threads: int, work: Work) -> Done:
    """Answer all questions about a clip. A clip or question that cannot be used is an answer of its own.

    Raises what loading the package raises: that is no clip's fault, and ends the run.
    """
    model = _loaded(package, threads)
    said: dict[str, Any] = {}
    failed: dict[str, str] = {}
    try:
        heard = Heard(model, work.sources)
    except Exception as error:
        return Done.nothing(work, _reason(error))
    with heard:
        for question in work.questions:
            try:
                said[question.id] = KINDS[question.kind](heard, question)
            except Exception as error:
                failed[question.id] = _reason(error)
    return Done(work, said, failed)


class Heard:
    """A clip in whatever form the model keeps it: a session to ask, or an embedding."""

    def __init__(self, model: Model, sources: tuple[str, ...]) -> None:
        self.model: Any = model
        self.sources = sources
        self.clip: Clip | None = None
        self.embedding: NDArray[np.float32] | None = None
        self._caption: str | None = None
        if {"ask", "caption"} & set(model.capabilities):
            self.clip = self.model.listen(*sources, window="first")
        elif "similarity" in model.capabilities:
            self.embedding = self.model.embed_audio([sources[0]])[0]

    def __enter__(self) -> Heard:
        return self

    def __exit__(self, *raised: object) -> None:
        if self.clip is not None:
            self.clip.close()

    @property
    def session(self) -> Clip:
        """The session; `tasks` gives these questions to no model without one."""
        assert self.clip is not None
        return self.clip

    @property
    def caption(self) -> str:
        """What the model itself calls the clip, generated once."""
        if self._caption is None:
            self._caption = self.session.ask("caption the audio.", max_tokens=CAPTION_TOKENS).text.strip()
        return self._caption


def _ask(heard: Heard, question: Question) -> str:
    _check_length(heard, question.text, "the question has")
    return heard.session.ask(question.text).text.strip()


def _caption(heard: Heard, question: Question) -> str:
    return heard.session.caption(beams=BEAMS).text.strip()


def _choose(heard: Heard, question: Question) -> list[float]:
    _check_length(heard, options_prompt(question.text, question.options)[0], "the text and its options have")
    return list(heard.session.choose(question.text, question.options).probabilities)


def _choose_after_caption(heard: Heard, question: Question) -> list[float]:
    text = f"{heard.caption.rstrip('.')}. {question.text}"
    _check_length(
        heard, options_prompt(text, question.options)[0], "the model's caption, the text and its options have"
    )
    return list(heard.session.choose(text, question.options).probabilities)


def _check_length(heard: Heard, asked: str, what: str) -> None:
    """PromptError for what the prompt cannot hold. Nothing is cut: the task file is what can be changed."""
    count, limit = len(heard.model.reader.tokenizer.question_ids(asked)), heard.model.info.prompt.prompt_tokens
    if count > limit:
        raise alm.PromptError(
            f"{what} {count} tokens; the limit of this package is {limit}. Shorten the text in the task file, or take "
            "the example out"
        )


def _embed_audio(heard: Heard, question: Question) -> str:
    assert heard.embedding is not None
    return packed(heard.embedding)


def _embed_text(heard: Heard, question: Question) -> str:
    return packed(heard.model.embed_text([question.text])[0])


def _score(heard: Heard, question: Question) -> dict[str, float]:
    found = heard.model.score(heard.sources[0])
    return {**found.values, "windows": len(found.spans)}


KINDS: dict[str, Callable[[Heard, Question], Any]] = {
    "ask": _ask,
    "caption": _caption,
    "choose": _choose,
    "choose_after_caption": _choose_after_caption,
    "embed_audio": _embed_audio,
    "embed_text": _embed_text,
    "score": _score,
}


def packed(vector: NDArray[np.float32]) -> str:
    """A vector as text, for the journal."""
    return base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode("ascii")


def unpacked(text: str) -> NDArray[np.float32]:
    """Inverse of `packed`: (D,)."""
    return np.frombuffer(base64.b64decode(text), "<f4")


@lru_cache(maxsize=1)
def _loaded(package: str, threads: int) -> Model:
    # No clip comes twice, so nothing of what was heard is kept: memory stays as it is after the first clip.
    return alm.load(package, threads=threads, cache_bytes=0)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, alm.AlmError) else f"{type(error).__name__}: {error}"
