"""CLAP: recordings and texts in one space (Elizalde et al., 2023, arXiv 2309.05767).

A window goes waveform -> `audio_encoder` -> vector, a text goes ids -> `text_encoder` -> vector. Their cosine, scaled
by a learned factor, says how well they fit; a softmax over texts makes probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from alm.adaptation import Adapter
from alm.audio import Source, WindowPolicy
from alm.engines.base import Float32, Int64
from alm.errors import AlmError, ResultsError
from alm.models.base import LoadOptions
from alm.models.sound_space import Progress, Reached, SoundSpace, softmax, unit
from alm.package import Package
from alm.search_index import Match, SearchIndex
from alm.texts.text import TextTokenizer


@dataclass(frozen=True)
class LabelProbability:
    """A label and how likely it is."""

    label: str
    """As it was given."""
    probability: float
    """From 0 to 1; over all labels they sum to 1."""


@dataclass(frozen=True)
class Classification:
    """Which labels fit a recording."""

    labels: tuple[LabelProbability, ...]
    """For the whole recording, the likeliest first."""
    spans: tuple[tuple[float, float], ...]
    """Start and end of each window, seconds."""
    curve: tuple[tuple[LabelProbability, ...], ...]
    """For each window, the likeliest first."""

    @property
    def best(self) -> str:
        """The likeliest label."""
        return self.labels[0].label


class Clap(SoundSpace):
    """A loaded CLAP package. Made by `alm.load`."""

    crops = True

    def __init__(self, package: Package, options: LoadOptions) -> None:
        super().__init__(package, options)
        layout = self.space.text
        self._tokenizer = None if layout is None else TextTokenizer(package.read("tokenizer.json"), layout)

    def embed_text(self, texts: Sequence[str], *, progress: Progress | None = None) -> Float32:
        """Unit vectors (n, width) of n texts. PromptError for a text that is empty or too long, AlmError for a package
        without the text encoder. `progress(done, n)` is called after each."""
        if isinstance(texts, str) or not isinstance(texts, Sequence):
            raise AlmError(f"found {type(texts).__name__}, expected a list of texts; write [text] for one")
        rows = np.empty((len(texts), self.space.width), np.float32)
        for index, text in enumerate(texts):
            ids, place = self._texts().encode(text)
            key = b"text:" + np.append(ids, place).tobytes()
            rows[index] = self._cache.get((key,), partial(self._text_vector, ids, place))
            if progress is not None:
                progress(index + 1, len(texts))
        return rows

    def similarity(
        self,
        sources: Sequence[Source],
        texts: Sequence[str],
        *,
        window: WindowPolicy = "all",
        compat: bool = False,
        progress: Progress | None = None,
    ) -> Float32:
        """The authors' similarity (recordings, texts): cosines times the model's learned scale.

        A softmax over the texts makes probabilities. Arguments and errors as for `embed_audio` and `embed_text`.
        """
        written = self.embed_text(texts)
        heard = self.embed_audio(sources, window=window, compat=compat, progress=progress)
        logits: Float32 = (heard @ written.T) * np.float32(self.space.scale)
        return logits

    def classify(
        self,
        source: Source,
        labels: Sequence[str] | None = None,
        *,
        template: str | None = None,
        window: WindowPolicy = "all",
        compat: bool = False,
        adapt: Adapter | None = None,
        progress: Reached | None = None,
    ) -> Classification:
        """Which of `labels` fit a recording; left out, those that were stored when the package was exported.

        `template` (left out, the package's) says what text a label becomes: "this is a sound of {}". A recording longer
        than a window is judged by the mean of its windows, and each window by itself. Audio arguments and errors as for
        `hear`; AlmError for fewer than two labels or a template without `{}`.

        `adapt` fits the labels' texts to each window by the entropy over changed views of it, which costs an encoder
        pass per view; the recording is then judged by the mean of its windows' probabilities.
        """
        names, vectors = self._labelled(labels, template)
        if adapt is not None:
            return self._adapted(source, names, vectors, adapt, window, compat, progress)
        heard = self.hear(source, window=window, compat=compat, progress=progress)
        scale = np.float32(self.space.scale)
        whole = softmax((heard.mean @ vectors.T) * scale)
        windows = softmax((heard.vectors @ vectors.T) * scale)
        return Classification(_ranked(names, whole), heard.spans, tuple(_ranked(names, row) for row in windows))

    def _adapted(
        self,
        source: Source,
        names: Sequence[str],
        vectors: Float32,
        adapter: Adapter,
        window: WindowPolicy,
        compat: bool,
        progress: Reached | None,
    ) -> Classification:
        rows, spans = [], []
        for heard in self._windows(source, window, compat):
            views = np.stack([self._vector(samples) for samples in adapter.views(heard.samples)])
            rows.append(adapter.classify(views, vectors, self.space.scale))
            spans.append((heard.start_s, heard.end_s))
            if progress is not None:
                progress(heard.end_s)
        whole: Float32 = np.mean(rows, axis=0)
        return Classification(_ranked(names, whole), tuple(spans), tuple(_ranked(names, row) for row in rows))

    def search(self, index: SearchIndex, text: str, count: int = 10) -> tuple[Match, ...]:
        """The recordings of an index that a text describes best, the nearest first. ResultsError when another package
        made the index. `index.search(model.embed_audio([source])[0])` finds what sounds like a recording."""
        if index.fingerprint != self.package.fingerprint:
            raise ResultsError(
                f"the index was made with {index.package} and not with {self.package.path}, whose vectors differ; "
                "make it again with 'alm embed'"
            )
        return index.search(self.embed_text([text])[0], count)

    def _labelled(self, labels: Sequence[str] | None, template: str | None) -> tuple[Sequence[str], Float32]:
        if labels is None:
            if not self.space.labels:
                raise AlmError("this package has no labels of its own; name at least two, such as 'dog bark' 'rain'")
            if template is not None:
                raise AlmError(
                    "the package's own labels were put into its template at export; name labels to use another"
                )
            return self.space.labels, self._stored["labels"]
        if isinstance(labels, str) or len(labels) < 2 or len(set(labels)) < len(labels):
            raise AlmError(f"found the labels {labels!r}, expected a list of at least two different ones")
        if not all(label.strip() for label in labels):
            raise AlmError(f"found the labels {labels!r}, expected none of them empty")
        template = self.space.template if template is None else template
        if "{}" not in template:
            raise AlmError(f"found the template {template!r}, expected {{}} in it, where the label goes")
        return labels, self.embed_text([template.replace("{}", label) for label in labels])

    def _texts(self) -> TextTokenizer:
        if self._tokenizer is None:
            own = f"its own labels ({', '.join(self.space.labels)})" if self.space.labels else "sounds"
            raise AlmError(
                f"{self.package.path} was exported without the text encoder and knows only {own}; export it without "
                "--no-text"
            )
        return self._tokenizer

    def _text_vector(self, ids: Int64, place: int) -> Float32:
        inputs = {"ids": ids, "place": np.array([place], np.int64)}
        return unit(self._graph("text_encoder").run(["embedding"], **inputs)["embedding"][0])


def _ranked(labels: Sequence[str], probabilities: Float32) -> tuple[LabelProbability, ...]:
    order = np.argsort(-probabilities, kind="stable")
    return tuple(LabelProbability(labels[index], float(probabilities[index])) for index in order)
