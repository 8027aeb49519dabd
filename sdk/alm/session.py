"""A clip session: what was heard, kept as audio tokens and KV prefixes, ready for any number of questions."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Generator, Sequence
from pathlib import Path
from typing import Unpack

import numpy as np

from alm.answering.answers import Answer, Choice, Piece, Timing, WindowAnswer, answer_of
from alm.answering.beam_search import BeamSearch
from alm.answering.choosing import log_likelihoods, options_prompt, softmax
from alm.answering.drafts import CLEAR, CLEAR_BY_SCHEME
from alm.answering.generation import Beginning, Generation, GenerationOptions, Settings
from alm.answering.streaming import AnswerStream, on_worker
from alm.answering.turns import Question
from alm.closing import Closing
from alm.engines.base import Float32, KVCache
from alm.errors import AlmError, PromptError
from alm.heard.prefix import HeardWindow, Reader
from alm.heard.saved import write_session


class Clip(Closing):
    """A recording (or a pair of recordings) that was listened to. Made by `model.listen`, `fork` and `alm.restore`.

    Safe to use from several threads at once: each question works on its own fork of the kept KV prefix.
    A recording longer than the model's window is asked window by window; `Answer.windows` has each answer.
    Closing lets go of what was heard; questions that are being answered at that moment still finish. Sessions of
    the same sound, forks and the model's cache share it, and whoever is left keeps it.
    """

    def __init__(self, windows: Sequence[HeardWindow], reader: Reader, encode_seconds: float) -> None:
        self._windows: tuple[HeardWindow, ...] | None = tuple(windows)
        self._reader = reader
        self._encode_seconds = encode_seconds

    @property
    def spans(self) -> tuple[tuple[float, float], ...]:
        """Start and end of each window in seconds."""
        return tuple((window.start, window.end) for window in self._open())

    def ask(self, question: str, *, truncate: bool = False, **options: Unpack[GenerationOptions]) -> Answer:
        """Answer a question. Options: max_tokens, temperature, top_p, seed, stop, draft, beams (see GenerationOptions).

        Raises PromptError for an empty question, one past the package's token limit (unless `truncate`), or
        options out of range; BusyError when as many questions as may wait do (see `alm.load`).
        """
        return self.stream(question, truncate=truncate, **options).finish()

    def stream(self, question: str, *, truncate: bool = False, **options: Unpack[GenerationOptions]) -> AnswerStream:
        """Answer a question piece by piece; `close()` on the iterator cancels.

        The texts of the pieces of one window, joined, are exactly that window's text. After the last piece
        the iterator's `answer` holds what `ask` would have returned. Raises as `ask` does, at the call.
        """
        return self._begin(self._reader.turns.question(), question, truncate, options)

    async def ask_async(self, question: str, *, truncate: bool = False, **options: Unpack[GenerationOptions]) -> Answer:
        """`ask` on a worker thread. Cancelling the task stops the work after the token under way, or its wait."""
        asked = self._reader.turns.question()
        # Counted from here on: what waits for a worker thread waits too.
        with asked:
            try:
                return await on_worker(lambda: self._begin(asked, question, truncate, options).finish())
            finally:
                asked.stop()

    async def stream_async(
        self, question: str, *, truncate: bool = False, **options: Unpack[GenerationOptions]
    ) -> AsyncIterator[Piece]:
        """`stream` on a worker thread, for `async for`; leaving the loop and `aclose()` cancel."""
        asked = self._reader.turns.question()
        with asked:
            stream = await on_worker(self._begin, asked, question, truncate, options)
        try:
            while True:
                with asked:
                    piece = await on_worker(next, stream, None)
                if piece is None:
                    return
                yield piece
        finally:
            stream.close()

    def caption(self, **options: Unpack[GenerationOptions]) -> Answer:
        """Describe the sound, with a package that captions and takes no question. Options and errors as for `ask`."""
        return self.stream_caption(**options).finish()

    def stream_caption(self, **options: Unpack[GenerationOptions]) -> AnswerStream:
        """`caption` piece by piece, as `stream`."""
        return self._begin(self._reader.turns.question(), None, False, options)

    def choose(self, question: str, options: Sequence[str]) -> Choice:
        """Score 2 to 26 options and return the likeliest, with the probability of each.

        Yes/no options are scored as the answer to the bare question. Others are put into the question the
        way the models are trained, 'question a) x b) y', and 'a) x', 'b) y' are scored. A score is the
        log-likelihood of the whole option; probabilities are the softmax over the options (over the windows
        of a long recording, their mean), so they compare these options with each other and nothing else.

        Raises as `ask` does, and PromptError for options that cannot be told apart.
        """
        return self._choose(self._reader.turns.question(), question, options)

    async def choose_async(self, question: str, options: Sequence[str]) -> Choice:
        """`choose` on a worker thread. Cancelling the task stops as in `ask_async`."""
        asked = self._reader.turns.question()
        with asked:
            try:
                return await on_worker(self._choose, asked, question, options)
            finally:
                asked.stop()

    def fork(self) -> Clip:
        """Another session of the same sound. It costs no memory of its own, and closing either leaves the other."""
        return Clip(self._open(), self._reader, self._encode_seconds)

    def save(self, path: str | Path, *, prefixes: bool = True) -> None:
        """Write the session to a file that `alm.restore` reads; the recording is not in it, and not needed.

        The file appears complete or not at all. `prefixes=False` leaves out the keys and values, which are nearly all
        of it; restoring it then runs the kept prefixes once. Raises SessionError when the file cannot be written.
        """
        write_session(path, self._open(), self._reader, prefixes)

    def close(self) -> None:
        """Let go of the audio tokens and KV prefixes. Closing twice is fine."""
        self._windows = None

    def _open(self) -> tuple[HeardWindow, ...]:
        windows = self._windows
        if windows is None:
            raise AlmError("this clip session is closed; call listen again to ask more")
        return windows

    def _begin(self, asked: Question, question: str | None, truncate: bool, options: GenerationOptions) -> AnswerStream:
        windows, started = self._open(), time.perf_counter()
        settings = Settings(**options)
        prompt = self._reader.prompt(question, truncate=truncate)
        self._check_budget(settings)
        draft = self._reader.tokenizer.ids(settings.draft)
        return AnswerStream(self._answer(windows, prompt, settings, draft, asked, started), asked)

    def _choose(self, asked: Question, question: str, options: Sequence[str]) -> Choice:
        windows = self._open()
        question, continuations = options_prompt(question, options)
        tokenizer, decoder = self._reader.tokenizer, self._reader.decoder
        prompt = self._reader.prompt(question)
        ids = [tokenizer.ids(text) for text in continuations]
        if (longest := max(map(len, ids))) > self._reader.room:
            raise PromptError(
                f"an option has {longest} tokens; this package has room for {self._reader.room}. Shorten it"
            )
        scores = []
        with asked:
            for window in windows:
                cache, logits = self._reader.read(window, prompt, asked)
                scores.append(softmax(log_likelihoods(decoder, cache, logits, ids)))
        probabilities = np.mean(scores, axis=0)
        index = int(np.argmax(probabilities))
        return Choice(options[index], index, tuple(float(p) for p in probabilities))

    def _check_budget(self, settings: Settings) -> None:
        if settings.max_tokens is not None and settings.max_tokens > self._reader.room:
            raise PromptError(f"max_tokens is {settings.max_tokens}; this package has room for {self._reader.room}")

    def _answer(
        self,
        windows: tuple[HeardWindow, ...],
        prompt: Float32,
        settings: Settings,
        draft: Sequence[int],
        asked: Question,
        started: float,
    ) -> Generator[Piece, None, Answer]:
        answers: list[WindowAnswer] = []
        prefill = first_token = decode = 0.0
        for number, window in enumerate(windows):
            begun = time.perf_counter()
            cache, logits = self._reader.read(window, prompt, asked)
            ready = time.perf_counter()
            answers.append((yield from self._window(number, window, cache, logits, settings, draft, started)))
            # Neighbouring windows often sound alike, so the answer about one is a good guess at the next one's.
            draft = answers[-1].tokens
            prefill += ready - begun
            decode += time.perf_counter() - ready
            first_token = first_token or ready - started
        return answer_of(tuple(answers), Timing(self._encode_seconds, prefill, first_token, decode))

    def _window(
        self,
        number: int,
        window: HeardWindow,
        cache: KVCache,
        logits: Float32,
        settings: Settings,
        draft: Sequence[int],
        started: float,
    ) -> Generator[Piece, None, WindowAnswer]:
        reader, defaults = self._reader, self._reader.defaults
        budget = min(settings.max_tokens or defaults.max_tokens, reader.room)
        beginning = Beginning(reader.decoder, cache, logits, defaults.stop_id, budget, reader.tokenizer.text)
        generation: BeamSearch | Generation
        if settings.beams > 1:
            generation = BeamSearch(beginning, settings)
        else:
            clear = CLEAR_BY_SCHEME.get(reader.package.manifest.components["decoder"].scheme, CLEAR)
            generation = Generation(beginning, settings, draft, clear)
        pieces: list[Piece] = []
        for token, text in generation:
            pieces.append(Piece(text, token, time.perf_counter() - started, number))
            yield pieces[-1]
        return WindowAnswer(
            start=window.start,
            end=window.end,
            text="".join(piece.text for piece in pieces),
            tokens=tuple(piece.token for piece in pieces),
            finish_reason=generation.finish_reason,
        )
