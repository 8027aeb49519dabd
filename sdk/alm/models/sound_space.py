"""What CLAP and PAM have in common: a recording, window by window, as unit vectors beside those of texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from alm.audio import Source, Window, WindowPolicy, compat_windows, stream_windows
from alm.engines.base import Array, Float32, Graph
from alm.errors import AlmError, PackageError
from alm.heard.clip_cache import ClipCache, sound_hash
from alm.models.base import LoadOptions, Model, engines_of
from alm.package import EmbeddingSpace, Package, section
from alm.self_test import ANY, Golden, GoldenArray, SelfTest, only

Progress = Callable[[int, int], None]
"""Called with how many are done, and of how many."""
Reached = Callable[[float], None]
"""Called with the seconds of a recording that were heard."""


@dataclass(frozen=True, eq=False)
class HeardSound:
    """A recording as the model hears it."""

    vectors: Float32
    """Unit vectors (windows, width)."""
    spans: tuple[tuple[float, float], ...]
    """Start and end of each window, seconds."""

    @property
    def mean(self) -> Float32:
        """The unit vector (width,) of the whole recording: the mean of its windows'."""
        return unit(self.vectors.mean(axis=0))


class SoundSpace(Model):
    """A model that compares sounds with texts. Safe to use from several threads at once, which run side by side."""

    crops: ClassVar[bool] = False
    """Whether the authors' loader takes one window of a long recording, at random, and `compat` therefore the first."""

    def __init__(self, package: Package, options: LoadOptions) -> None:
        """Load the components of an open package; closing the model closes it. Errors as `alm.load`."""
        super().__init__(package, options)
        self._cache = ClipCache(options.cache_bytes)
        names = ("audio_encoder", "text_encoder") if self.space.text else ("audio_encoder",)
        engines = engines_of(package.manifest, names, options)
        self._graphs: dict[str, Graph] | None = {name: engines[name].load_graph(package, name) for name in names}
        self._stored = stored_vectors(package, self.space)

    @property
    def space(self) -> EmbeddingSpace:
        """Where sounds and texts are compared: width, scale, labels, pairs."""
        return section(self.info.embedding, "embedding")

    @property
    def cache(self) -> ClipCache:
        """Vectors of sounds and texts met lately; `cache.counts` says how often it helped and what it takes."""
        return self._cache

    @property
    def self_test(self) -> SelfTest:
        """How `alm verify` tests this model: log-mel and unit vector of each clip, the unit vector of a text where the
        package reads texts, and the scaled cosines of the clips to it and to the stored texts."""
        inputs = {"audio": GoldenArray("f", (range(1, 5), only(self.info.frontend.samples)))}
        stages = {"log_mel": GoldenArray("f", (ANY, ANY, ANY)), "embedding": GoldenArray("f", (ANY, ANY))}
        if self.space.text is not None:
            inputs |= {
                "text_ids": GoldenArray("i", (range(1, self.space.text.tokens + 1),)),
                "text_place": GoldenArray("i", (only(1),)),
            }
            stages["text_embedding"] = GoldenArray("f", (ANY, ANY))
        return SelfTest(inputs, {**stages, "similarity": GoldenArray("f", (ANY, ANY))}, self._test)

    def hear(
        self,
        source: Source,
        *,
        window: WindowPolicy = "all",
        compat: bool = False,
        progress: Reached | None = None,
    ) -> HeardSound:
        """A recording, window by window. Sources as for `alm.models.Mellow.listen`, AudioError when one is unusable.

        `window="first"` hears the first window only. `compat=True` reads audio as the authors' own loader does:
        channels one behind the other, their resampler; for CLAP the start of a long recording, where they take a random
        place. `progress(seconds)` is told after each window how far into the recording it reached.
        """
        vectors, spans = [], []
        for heard in self._windows(source, window, compat):
            vectors.append(self._cache.get((sound_hash(heard.samples),), partial(self._vector, heard.samples)))
            spans.append((heard.start_s, heard.end_s))
            if progress is not None:
                progress(heard.end_s)
        return HeardSound(np.stack(vectors), tuple(spans))

    def embed_audio(
        self,
        sources: Sequence[Source],
        *,
        window: WindowPolicy = "all",
        compat: bool = False,
        progress: Progress | None = None,
    ) -> Float32:
        """Unit vectors (n, width) of n recordings; one longer than a window is the mean of its windows.

        `progress(done, n)` is called after each. Arguments and errors as for `hear`, AlmError for what is no list.
        """
        if isinstance(sources, str | bytes | tuple) or not isinstance(sources, Sequence):
            raise AlmError(f"found {type(sources).__name__}, expected a list of recordings; write [source] for one")
        rows = np.empty((len(sources), self.space.width), np.float32)
        for index, source in enumerate(sources):
            rows[index] = self.hear(source, window=window, compat=compat).mean
            if progress is not None:
                progress(index + 1, len(sources))
        return rows

    def encode(self, samples: Float32, outputs: tuple[str, ...] = ("embedding",)) -> dict[str, Array]:
        """Run the audio encoder on one clip (frontend.samples,) of float32 in [-1, 1].

        Returns the named outputs without a batch axis: embedding (width,) before normalisation, log_mel
        (frames, mels) in dB.
        """
        found = self._graph("audio_encoder").run(outputs, waveform=samples[np.newaxis])
        return {name: array[0] for name, array in found.items()}

    def close(self) -> None:
        """Let go of the engines' components, the package file and the cache. Closing twice is fine."""
        self._graphs = None
        self._cache.close()
        self._package.close()

    def _graph(self, name: str) -> Graph:
        graphs = self._graphs
        if graphs is None:
            raise AlmError("this model is closed; load the package again")
        return graphs[name]

    def _vector(self, samples: Float32) -> Float32:
        return unit(self.encode(samples)["embedding"])

    def _windows(self, source: Source, policy: WindowPolicy, compat: bool) -> Iterator[Window]:
        rate, length = self.info.frontend.sample_rate, self.info.frontend.samples
        if compat:
            return compat_windows(source, rate, length, "first" if self.crops else policy)
        return stream_windows(source, rate, length, policy)

    def _test(self, golden: Golden) -> Iterator[tuple[str, Array]]:
        heard = [self.encode(clip, ("log_mel", "embedding")) for clip in golden["audio"].astype(np.float32)]
        yield "log_mel", np.stack([outputs["log_mel"] for outputs in heard])
        sounds = unit(np.stack([outputs["embedding"] for outputs in heard]))
        yield "embedding", sounds
        texts = [table.reshape(-1, self.space.width) for table in self._stored.values()]
        if self.space.text is not None:
            ids, place = golden["text_ids"].astype(np.int64), golden["text_place"].astype(np.int64)
            text = unit(self._graph("text_encoder").run(["embedding"], ids=ids, place=place)["embedding"])
            yield "text_embedding", text
            texts.append(text)
        yield "similarity", self.space.scale * sounds @ np.concatenate(texts).T


def unit(rows: Float32) -> Float32:
    """Rows (..., width) divided by their Euclidean norm."""
    scaled: Float32 = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return scaled


def softmax(logits: Float32) -> Float32:
    """Logits (..., n) to probabilities (..., n) along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Float32 = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def stored_vectors(package: Package, space: EmbeddingSpace) -> dict[str, Float32]:
    """`labels` (labels, width) and `pairs` (pairs, 2, width), as far as the package has them; else PackageError."""
    expected = {"labels": (len(space.labels), space.width), "pairs": (len(space.pairs), 2, space.width)}
    wanted = {name: shape for name, shape in expected.items() if shape[0]}
    tensors = package.tensors(space.vectors) if space.vectors is not None else {}
    found = {name: (tensor.dtype.name, tensor.shape) for name, tensor in tensors.items()}
    if found != {name: ("float32", shape) for name, shape in wanted.items()}:
        raise PackageError(
            f"{space.vectors!r} holds {found or 'nothing'}, the manifest says float32 {wanted}; "
            "export the package again"
        )
    for name, tensor in tensors.items():
        if not np.allclose(np.linalg.norm(tensor, axis=-1), 1, atol=1e-3):
            raise PackageError(f"{space.vectors!r}: {name} are not unit vectors; export the package again")
    return tensors
