"""What hears recordings window by window and tells of them in words: the common part of such families."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar, Unpack

import numpy as np

from alm.answering.generation import GenerationOptions, Settings
from alm.answering.streaming import AnswerStream
from alm.answering.turns import Turns
from alm.audio import Source, Window, WindowPolicy, compat_window, stream_windows
from alm.audio.log_mel import package_bank
from alm.engines import Engine
from alm.engines.base import Array, Float32, Graph
from alm.errors import AlmError, AudioError
from alm.heard.audio_tokens import AudioTokens
from alm.heard.clip_cache import ClipCache, sound_hash
from alm.heard.prefix import KEPT_PREFIXES, HeardWindow, KeptPrefix, Reader, Slots, expanded
from alm.listening.blocks import LiveSource
from alm.listening.gate import GateSettings
from alm.listening.sources import open_source
from alm.listening.watch import WatchStream
from alm.listening.windows import SoundWindow, Windower
from alm.models.base import LoadOptions, Model, engines_of
from alm.package import Package
from alm.session import Clip

Progress = Callable[[float], None]

DEFAULT_GATE = GateSettings()
"""Lets through whatever stands out from the background."""


@dataclass(frozen=True)
class _Parts:
    """What a loaded model runs."""

    encoder: Graph
    """Waveform (1, samples) to what a session keeps of it."""
    reader: Reader
    """From that, and a question where the model takes one, to text."""


class Listener(Model):
    """A model that hears and tells. A family says what it is made of and how a prefix comes about.

    Safe to use from several threads at once. Closing it (or leaving `with`) lets go of the weights; sessions
    made from it hold them until they are closed too, and keep answering.
    """

    components: ClassVar[tuple[str, ...]]
    """What a package of the family needs."""
    heard: ClassVar[str]
    """The encoder's output that a session keeps of a window."""

    def __init__(self, package: Package, options: LoadOptions) -> None:
        """Load the components of an open package; closing the model closes it. Errors as `alm.load`."""
        super().__init__(package, options)
        self._cache, turns = ClipCache(options.cache_bytes), Turns(options.waiting)
        engines = engines_of(package.manifest, self.components, options)
        self._parts: _Parts | None = _Parts(
            encoder=engines["audio_encoder"].load_graph(package, "audio_encoder"),
            reader=self._load_reader(package, engines, turns),
        )

    @abstractmethod
    def _load_reader(self, package: Package, engines: dict[str, Engine], turns: Turns) -> Reader:
        """The language side, from the engines of the components."""

    @property
    def reader(self) -> Reader:
        """The language side: decoder, tokenizer and limits."""
        return self._open().reader

    @property
    def cache(self) -> ClipCache:
        """What was heard lately; `cache.counts` says how often it helped and what it takes."""
        return self._cache

    def listen(
        self,
        a: Source,
        b: Source | None = None,
        *,
        window: WindowPolicy = "all",
        compat: bool = False,
        progress: Progress | None = None,
    ) -> Clip:
        """Read and encode a recording, or a pair for questions about both, and keep what was heard.

        A source is a path, the bytes of a file, an open binary file, or (samples, sample rate). A recording
        longer than the model's window is heard window by window; `window="first"` hears its first window only. A
        pair is compared window against window, so there both must fit into one, or `window="first"` must say that
        the rest does not count. `compat=True` reads audio as the authors' own loader does, one window from the
        start. `progress(seconds)` is told after each window how far into the recording it reached. Sound that was
        heard lately, in whatever file, is not encoded again.

        Raises AudioError when a source cannot be used, BusyError when as many questions as may wait do.
        """
        reader, started = self.reader, time.perf_counter()
        heard: list[HeardWindow] = []
        with reader.turns.question():
            for one, two in self._pairs(a, a if b is None else b, window, compat):
                heard.append(self._hear(one, two, keep=reader.keeps_prefixes and len(heard) < KEPT_PREFIXES))
                if progress is not None:
                    progress(one.end_s)
        return Clip(heard, reader, time.perf_counter() - started)

    def watch(
        self,
        source: Source | LiveSource,
        prompt: str | None = None,
        *,
        gate: GateSettings | None = DEFAULT_GATE,
        truncate: bool = False,
        **options: Unpack[GenerationOptions],
    ) -> WatchStream:
        """Listen until the sound ends, and say what is heard: an iterator and async iterator of events.

        A source is an `alm.Microphone`, another live source, or anything that `listen` takes. Only what the gate
        lets through is asked about, `gate=None` asks about everything; a sound longer than a window is heard in
        windows that overlap by a fifth. `prompt` is None where the model takes no question. An event is given out
        when its sound is over (the gate closes after the quiet of its `hang_over_seconds`) or the description
        changes, and after a minute at the latest. Each description is the draft of the next. See WatchStream for
        threads, closing and what happens when the model is slower than the sound.

        Raises AudioError when the source cannot be opened, PromptError and AlmError for a wrong prompt or option.
        """
        reader = self.reader
        reader.prompt(prompt, truncate=truncate)
        Settings(**options)
        opened = open_source(source)

        def ask(window: SoundWindow, draft: str) -> AnswerStream:
            started = time.perf_counter()
            # Refused here, a question costs nothing; refused after it, it would cost an encoder pass each time.
            with reader.turns.question():
                tokens = self._tokens(window.samples)
            # One question is asked, so its prefix is not kept; nor is sound that will not come again kept in the cache.
            heard = HeardWindow(window.start, window.end, (tokens, tokens), None)
            clip = Clip([heard], reader, time.perf_counter() - started)
            drafted: GenerationOptions = {**options, "draft": draft or options.get("draft", "")}
            if prompt is None:
                return clip.stream_caption(**drafted)
            return clip.stream(prompt, truncate=truncate, **drafted)

        try:
            bank = None if gate is None else package_bank(self._package)
            return WatchStream(opened, Windower(self.info.frontend, opened.sample_rate, gate, bank), ask)
        except BaseException:
            opened.close()
            raise

    def encode(self, samples: Float32, outputs: tuple[str, ...] = ()) -> dict[str, Array]:
        """Run the audio encoder on one clip (frontend.samples,) of float32 in [-1, 1].

        Returns the named outputs without a batch axis: log_mel (frames, mels) in dB and, of Mellow, audio_tokens
        (audio_tokens, width) and latent (D,), of the others embedding (D,). Without names it is what a session keeps.
        """
        outputs = outputs or (self.heard,)
        parts = self._open()
        with parts.reader.turns.turn():
            found = parts.encoder.run(outputs, waveform=samples[np.newaxis])
        return {name: array[0] for name, array in found.items()}

    def close(self) -> None:
        """Let go of the engines' components, the package file and the cache. Closing twice is fine."""
        self._parts = None
        self._cache.close()
        self._package.close()

    def _open(self) -> _Parts:
        parts = self._parts
        if parts is None:
            raise AlmError("this model is closed; load the package again")
        return parts

    def _pairs(self, a: Source, b: Source, policy: WindowPolicy, compat: bool) -> Iterator[tuple[Window, Window]]:
        if b is a:
            return ((window, window) for window in self._windows(a, policy, compat))
        return iter([(self._only_window(a, policy, compat), self._only_window(b, policy, compat))])

    def _windows(self, source: Source, policy: WindowPolicy, compat: bool) -> Iterator[Window]:
        rate, length = self.info.frontend.sample_rate, self.info.frontend.samples
        if compat:
            return iter([compat_window(source, rate, length)])
        return stream_windows(source, rate, length, policy)

    def _only_window(self, source: Source, policy: WindowPolicy, compat: bool) -> Window:
        only, *more = islice(self._windows(source, policy, compat), 2)
        if more:
            seconds = self.info.frontend.samples / self.info.frontend.sample_rate
            name = source if isinstance(source, str | Path) else "a recording"
            raise AudioError(
                f"{name} is longer than {seconds:g} s, and two recordings are compared within one window of "
                f"{seconds:g} s. Pass window='first' (--window first) to compare the first {seconds:g} s of "
                "each, or cut the recordings"
            )
        return only

    def _hear(self, one: Window, two: Window, *, keep: bool) -> HeardWindow:
        sounds = sound_hash(one.samples), sound_hash(two.samples)
        if not keep:
            return HeardWindow(one.start_s, one.end_s, self._slots(one, two, sounds), None)
        prefix = self._cache.get(sounds, lambda: self._prefix(self._slots(one, two, sounds)))
        return HeardWindow(one.start_s, one.end_s, prefix.slots, prefix.cache)

    def _slots(self, one: Window, two: Window, sounds: tuple[bytes, bytes]) -> Slots:
        first = self._cache.get(sounds[:1], lambda: self._tokens(one.samples))
        # Equal sound gives equal tokens, and one pass is half of all encoder time.
        if sounds[0] == sounds[1]:
            return first, first
        return first, self._cache.get(sounds[1:], lambda: self._tokens(two.samples))

    def _tokens(self, samples: Float32) -> AudioTokens:
        return AudioTokens.of(np.atleast_2d(self.encode(samples)[self.heard]))

    def _prefix(self, slots: Slots) -> KeptPrefix:
        return KeptPrefix(slots, self.reader.run_prefix(expanded(slots)))
