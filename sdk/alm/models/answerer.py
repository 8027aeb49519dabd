"""Models that answer questions about one recording or about two."""

from __future__ import annotations

from typing import Unpack

from alm.answering.answers import Answer
from alm.answering.generation import GenerationOptions
from alm.audio import Source, WindowPolicy
from alm.models.listener import Listener


class Answerer(Listener):
    """A model that is asked. `listen` gives a session for many questions, `compare` asks one about two recordings."""

    def compare(
        self,
        a: Source,
        b: Source,
        question: str,
        *,
        window: WindowPolicy = "all",
        compat: bool = False,
        truncate: bool = False,
        **options: Unpack[GenerationOptions],
    ) -> Answer:
        """Ask one question about two recordings, such as "explain the difference in few words."

        Audio arguments and errors as in `listen`, the others as in `Clip.ask`.
        """
        with self.listen(a, b, window=window, compat=compat) as clip:
            return clip.ask(question, truncate=truncate, **options)
