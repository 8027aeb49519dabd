"""What an engine must offer: graphs from arrays to arrays, and a decoder that keeps its KV cache inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from alm.errors import EngineError
from alm.package import Package
from alm.package.sections import DecoderShape

Array = NDArray[Any]
Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


@runtime_checkable
class Graph(Protocol):
    """One loaded component. Safe to call from several threads at once."""

    def run(self, outputs: Sequence[str], **inputs: Array) -> dict[str, Array]:
        """Compute the named outputs of the graph for the named inputs; other outputs are not computed."""
        ...


Embedding = Callable[[Int64], Float32]
"""Token ids (T,) to embeddings (T, width); EngineError for an id outside the vocabulary."""


def check_ids(ids: Int64, vocabulary: int) -> None:
    """EngineError for an id (T,) outside the vocabulary."""
    # As a list: for the one id of a step numpy would take ten times as long.
    if foreign := [token for token in ids.tolist() if not 0 <= token < vocabulary]:
        raise EngineError(f"found the token id {foreign[0]}; the vocabulary has {vocabulary}")


def check_append(embeddings: Float32, held: int, shape: DecoderShape) -> None:
    """EngineError unless embeddings are (T, width), T at least 1, and fit in a cache that holds `held` positions."""
    count = len(embeddings)
    if embeddings.shape != (count, shape.width):
        raise EngineError(f"found embeddings of {embeddings.shape[1:]} in the decoder, expected {shape.width}")
    if not held < held + count <= shape.max_positions:
        raise EngineError(f"cannot append {count} positions to {held}: the cache holds {shape.max_positions}")


def check_rewind(length: int, held: int) -> None:
    """EngineError unless a cache that holds `held` positions can go back to `length` of them."""
    if not 0 <= length <= held:
        raise EngineError(f"cannot rewind to {length}: the cache holds {held} positions")


@runtime_checkable
class KVCache(Protocol):
    """The keys and values of one sequence. One thread uses one cache at a time; forks are independent."""

    @property
    def length(self) -> int:
        """Positions held so far."""
        ...

    @property
    def capacity(self) -> int:
        """The most positions this cache can hold."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the positions held take."""
        ...

    def append(self, embeddings: Float32) -> Float32:
        """Run the decoder on `embeddings` (T, width), T >= 1, at positions length .. length + T - 1.

        Returns the logits (vocabulary,) of the last of them. EngineError when T passes the capacity.
        """
        ...

    def append_all(self, embeddings: Float32) -> Float32:
        """Do as `append`; returns the logits (T, vocabulary) of each of the T positions.

        They may differ in the last bits from those of T single appends: kernels round a batch in another order.
        """
        ...

    def rewind(self, length: int) -> None:
        """Forget every position from `length` on."""
        ...

    def fork(self) -> KVCache:
        """An independent cache that holds the same positions; appending to one leaves the other as it is."""
        ...

    def state(self) -> Array:
        """A copy of the keys and values of the positions held, in the engine's own layout.

        EngineError where an engine has no layout that it could check when it is read again.
        """
        ...


@runtime_checkable
class Decoder(Protocol):
    """A language model together with its token embedding. Safe to use from several threads at once."""

    def new_cache(self) -> KVCache:
        """An empty cache with room for the model's `max_positions`."""
        ...

    def cache_from(self, state: Array) -> KVCache:
        """A cache that holds the positions of a `KVCache.state`.

        EngineError for any other array: another type or shape, more positions than fit, NaN or infinity.
        """
        ...

    def embed(self, ids: Int64) -> Float32:
        """The embeddings (T, width) of the token ids (T,)."""
        ...


@runtime_checkable
class Engine(Protocol):
    """Loads components of a package, which must stay open as long as they are used."""

    @property
    def name(self) -> str:
        """The name under which manifests ask for this engine."""
        ...

    def load_graph(self, package: Package, component: str) -> Graph:
        """Load one component by its manifest name; EngineError when it cannot run here."""
        ...

    def load_embedding(self, package: Package) -> Embedding:
        """Load the component `token_embedding`; EngineError when it cannot run here."""
        ...

    def load_decoder(self, package: Package) -> Decoder:
        """Load the component `decoder`, with the token embedding that goes with it."""
        ...
