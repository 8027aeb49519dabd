"""ClapCap: one recording, one caption (Elizalde et al., 2023, arXiv 2309.05767).

A recording goes waveform -> `audio_encoder` -> embedding -> `mapper` -> prefix; the decoder goes on from there.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Unpack

from alm.answering.answers import Answer
from alm.answering.generation import GenerationOptions
from alm.answering.streaming import AnswerStream
from alm.answering.turns import Turns
from alm.audio import Source, WindowPolicy
from alm.engines import Engine
from alm.heard.mapped_prefix import MappedReader, load_mapped_reader
from alm.models.captioner_self_test import captioner_self_test
from alm.models.listener import Listener, Progress
from alm.package import Package, section
from alm.self_test import SelfTest

BEAMS = 5
"""What the authors search with."""


class ClapCap(Listener):
    """A loaded ClapCap package. Made by `alm.load`."""

    components: ClassVar = ("audio_encoder", "mapper", "token_embedding", "decoder")
    heard: ClassVar = "embedding"

    @property
    def self_test(self) -> SelfTest:
        """How `alm verify` tests this model."""
        return captioner_self_test(self)

    def caption(
        self,
        source: Source,
        *,
        window: WindowPolicy = "all",
        compat: bool = False,
        progress: Progress | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Answer:
        """Describe a recording, window by window. Audio arguments and errors as in `listen`.

        Options as in `Clip.ask`, with `beams` 5 unless said otherwise; 1 decodes greedily, with one run of the decoder
        per token in place of five. `compat=True` reads audio as the authors do and writes as they do: the stop token, a
        space, stays at the end, the first letter is a capital and all others are small.
        """
        with self.listen(source, window=window, compat=compat, progress=progress) as clip:
            answer = clip.caption(**_with_beams(options))
        return self._as_the_authors(answer) if compat else answer

    def stream(
        self,
        source: Source,
        *,
        window: WindowPolicy = "all",
        compat: bool = False,
        **options: Unpack[GenerationOptions],
    ) -> AnswerStream:
        """`caption` piece by piece, greedily unless `beams` says otherwise; with beams a window comes in one go."""
        with self.listen(source, window=window, compat=compat) as clip:
            return clip.stream_caption(**options)

    def _load_reader(self, package: Package, engines: dict[str, Engine], turns: Turns) -> MappedReader:
        return load_mapped_reader(package, engines, turns)

    def _as_the_authors(self, answer: Answer) -> Answer:
        stop, decode = section(self.info.generation, "generation").stop_id, self.reader.tokenizer.text
        kept = answer.tokens + ((stop,) if answer.finish_reason == "stop" else ())
        text = decode(kept).capitalize()
        return dataclasses.replace(answer, text=text, windows=(dataclasses.replace(answer.windows[0], text=text),))


def _with_beams(options: GenerationOptions) -> GenerationOptions:
    return {**options, "beams": options.get("beams", BEAMS)}
