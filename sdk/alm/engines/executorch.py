"""ExecuTorch: components are methods of one program, which its Python runtime runs on XNNPACK.

Keys and values are inputs of the method `append`, which writes into them: a cache is memory of ours, and forks and
states are copies of its beginning.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import weakref
from collections.abc import Sequence

import numpy as np

from alm.engines.base import Array, Float32, Int64, check_append, check_ids, check_rewind
from alm.engines.executorch_program import (
    FLOAT,
    LONG,
    Input,
    Inputs,
    LoadedMethod,
    LoadedProgram,
    Signature,
    padded_tensor,
    set_threads,
    torch,
)
from alm.errors import EngineError
from alm.package import Package, section
from alm.package.sections import DecoderShape

GRAPHS = {"audio_encoder": (("waveform",), ("audio_tokens", "log_mel", "latent"))}
"""Component to its method's inputs and outputs, which a program has by place and not by name."""


def engine(threads: int) -> ExecuTorch:
    """The engine with `threads` compute threads.

    The threads are the process's: a second engine with another number changes the first one's too.
    """
    set_threads(threads)
    return ExecuTorch()


class ExecuTorch:
    """Loads components that are methods of a program."""

    name = "executorch"

    def __init__(self) -> None:
        self._programs: weakref.WeakKeyDictionary[Package, dict[str, LoadedProgram]] = weakref.WeakKeyDictionary()

    def load_graph(self, package: Package, component: str) -> ExecuTorchGraph:
        """Load one component; EngineError when its program has no such method."""
        if component not in GRAPHS:
            raise EngineError(f"executorch has no graph {component!r}; it runs {', '.join(GRAPHS)} and a decoder")
        inputs, outputs = GRAPHS[component]
        manifest = package.manifest
        samples, prompt = manifest.frontend.samples, section(manifest.prompt, "prompt")
        tokens = prompt.audio_tokens, section(manifest.decoder, "decoder").width
        program = self._program(package, component)
        method = program.method(component, component, [(FLOAT, (1, samples))], len(outputs), tokens)
        return ExecuTorchGraph(method, inputs, outputs, [(1, samples)])

    def load_embedding(self, package: Package) -> ExecuTorchEmbedding:
        """Load `token_embedding`."""
        shape = section(package.manifest.decoder, "decoder")
        inputs = [(LONG, (1, shape.max_positions))]
        program = self._program(package, "token_embedding")
        method = program.method("token_embedding", "token_embedding", inputs, 1, (shape.max_positions, shape.width))
        return ExecuTorchEmbedding(method, shape)

    def load_decoder(self, package: Package) -> ExecuTorchDecoder:
        """Load `token_embedding` and `decoder`."""
        shape = section(package.manifest.decoder, "decoder")
        cache = (1, shape.max_positions, shape.kv_heads, shape.head_dim)
        # How many logits one run may give is the program's choice.
        inputs: list[Signature]
        inputs = [(FLOAT, (1, shape.max_positions, shape.width)), (LONG, (None,)), (LONG, (1,))]
        inputs += [(FLOAT, cache)] * (2 * shape.layers)
        method = self._program(package, "decoder").method("append", "decoder", inputs, 1, (None, shape.vocabulary))
        return ExecuTorchDecoder(self.load_embedding(package), method, shape)

    def _program(self, package: Package, component: str) -> LoadedProgram:
        """The program of a component; components may share one."""
        entry, programs = package.manifest.components[component].graph, self._programs.setdefault(package, {})
        if entry not in programs:
            programs[entry] = LoadedProgram(entry, package.read(entry))
        return programs[entry]


class ExecuTorchGraph:
    """One method. Safe to call from several threads: runs go one at a time."""

    def __init__(
        self, method: LoadedMethod, inputs: Sequence[str], outputs: Sequence[str], shapes: Sequence[tuple[int, ...]]
    ) -> None:
        self._method, self._inputs, self._outputs, self._shapes = method, inputs, outputs, shapes
        meta = method.method.method_meta()
        self._sizes = [meta.input_tensor_meta(place).sizes() for place in range(len(inputs))]

    def run(self, outputs: Sequence[str], **inputs: Array) -> dict[str, Array]:
        """The named outputs; all are computed. EngineError when names or shapes do not fit."""
        unknown = [name for name in outputs if name not in self._outputs]
        shapes = {name: inputs[name].shape for name in inputs}
        if unknown or shapes != dict(zip(self._inputs, self._shapes, strict=True)):
            expected = ", ".join(f"{name} {shape}" for name, shape in zip(self._inputs, self._shapes, strict=True))
            raise EngineError(
                f"found inputs {shapes} for {', '.join(outputs)}; expected {expected} for {', '.join(self._outputs)}"
            )
        given = zip(self._inputs, self._sizes, strict=True)
        found = self._method.run(Inputs(tuple(padded_tensor(inputs[name].reshape(sizes)) for name, sizes in given)))
        named = dict(zip(self._outputs, found, strict=True))
        return {name: named[name] for name in outputs}


class ExecuTorchEmbedding:
    """Rows of the embedding table."""

    def __init__(self, method: LoadedMethod, shape: DecoderShape) -> None:
        self._method, self._shape = method, shape

    def __call__(self, ids: Int64) -> Float32:
        """(T,) ids to (T, width); EngineError for an id outside the vocabulary."""
        check_ids(ids, self._shape.vocabulary)
        most = self._shape.max_positions
        if len(ids) > most:
            return np.concatenate([self(ids[start : start + most]) for start in range(0, len(ids), most)])
        if not len(ids):
            return np.empty((0, self._shape.width), np.float32)
        rows: Float32 = self._method.run(Inputs((torch.from_numpy(np.array(ids[np.newaxis], np.int64)),)))[0][0]
        return rows


class ExecuTorchDecoder:
    """A decoder over caches that it reads and writes in place. Safe to use from several threads: runs go one at a
    time."""

    def __init__(self, embedding: ExecuTorchEmbedding, method: LoadedMethod, shape: DecoderShape) -> None:
        self._embedding, self._method, self.shape = embedding, method, shape
        self.rows: int = method.method.method_meta().input_tensor_meta(1).sizes()[0]
        """The most logits that one run gives."""
        self._spare: list[Float32] = []

    def embed(self, ids: Int64) -> Float32:
        """(T,) ids to (T, width); EngineError for an id outside the vocabulary."""
        return self._embedding(ids)

    def new_cache(self) -> ExecuTorchKVCache:
        """An empty cache, which takes memory only as positions are added.

        The memory of one cache that is gone is used again: on a virtual machine new pages made a prefix 5 % slower.
        """
        shape = self.shape
        with contextlib.suppress(IndexError):
            return ExecuTorchKVCache(self, self._spare.pop())
        layout = (2 * shape.layers, 1, shape.max_positions, shape.kv_heads, shape.head_dim)
        memory = mmap.mmap(-1, 4 * math.prod(layout), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        return ExecuTorchKVCache(self, np.frombuffer(memory, np.float32).reshape(layout))

    def cache_from(self, state: Array) -> ExecuTorchKVCache:
        """A cache over the positions of a state (2 * layers, positions, kv_heads, head_dim), keys before values."""
        shape = self.shape
        fits = state.ndim == 4 and state.shape[::2] == (2 * shape.layers, shape.kv_heads)
        fits = fits and state.shape[3] == shape.head_dim and 1 <= state.shape[1] <= shape.max_positions
        if state.dtype != np.float32 or not fits:
            raise EngineError(
                f"found keys and values of type {state.dtype} and shape {state.shape}; this decoder takes float32 of "
                f"({2 * shape.layers}, 1 to {shape.max_positions}, {shape.kv_heads}, {shape.head_dim})"
            )
        if not np.isfinite(state).all():
            raise EngineError("the keys and values are not all finite numbers")
        cache = self.new_cache()
        cache.hold(state[:, np.newaxis])
        return cache

    def run(self, inputs: Inputs) -> Float32:
        """Logits (K, vocabulary) from the inputs of the method `append`."""
        logits: Float32 = self._method.run(inputs)[0][0]
        return logits

    def take_back(self, buffers: Float32) -> None:
        """Keep the memory of a cache that is gone, unless there is some already."""
        if not self._spare:
            self._spare.append(buffers)


class ExecuTorchKVCache:
    """Keys and values of one sequence, which the decoder is handed anew at each run."""

    def __init__(self, decoder: ExecuTorchDecoder, buffers: Float32) -> None:
        self._decoder, self._buffers, self._length = decoder, buffers, 0
        self._tensors = tuple(torch.from_numpy(buffer) for buffer in buffers)
        # Inputs of a step keep their places: Python that makes them anew costs a step 3 % of its time.
        self._row, self._start = Input(1, 1, decoder.shape.width), Input(1, kind=np.int64)
        self._step = self._inputs(self._row.tensor, torch.arange(1))

    def __del__(self) -> None:
        self._decoder.take_back(self._buffers)

    @property
    def length(self) -> int:
        """Positions held."""
        return self._length

    @property
    def capacity(self) -> int:
        """Positions that fit."""
        return self._decoder.shape.max_positions

    @property
    def nbytes(self) -> int:
        """Bytes of the memory pages in which the positions lie; each layer's keys and values begin new ones."""
        shape = self._decoder.shape
        pages = -(-4 * self._length * shape.kv_heads * shape.head_dim // mmap.PAGESIZE)
        return 2 * shape.layers * pages * mmap.PAGESIZE

    def append(self, embeddings: Float32) -> Float32:
        """Run the decoder on (T, width); the logits (vocabulary,) of the last position."""
        check_append(embeddings, self._length, self._decoder.shape)
        logits: Float32 = self._run(embeddings, len(embeddings) - 1)[0]
        return logits

    def append_all(self, embeddings: Float32) -> Float32:
        """Run the decoder on (T, width); the logits (T, vocabulary) of every position."""
        check_append(embeddings, self._length, self._decoder.shape)
        before, most = self._length, self._decoder.rows
        try:
            starts = range(0, len(embeddings), most)
            return np.concatenate([self._run(embeddings[start : start + most], 0) for start in starts])
        except EngineError:
            self._length = before
            raise

    def _run(self, embeddings: Float32, first: int) -> Float32:
        """Append; the logits from row `first` of `embeddings` on."""
        count, inputs = len(embeddings), self._step
        if count == 1:
            self._row.values[0] = embeddings
        else:
            inputs = self._inputs(padded_tensor(embeddings[np.newaxis]), torch.arange(first, count))
        self._start.values[0] = self._length
        logits = self._decoder.run(inputs)
        self._length += count
        return logits

    def _inputs(self, embeddings: torch.Tensor, rows: torch.Tensor) -> Inputs:
        """Of a run that gives the logits of some rows of `embeddings` (1, T, width)."""
        return Inputs((embeddings, rows, self._start.tensor, *self._tensors))

    def rewind(self, length: int) -> None:
        """Forget every position from `length` on; what lies behind is overwritten by the next append."""
        check_rewind(length, self._length)
        self._length = length

    def fork(self) -> ExecuTorchKVCache:
        """An independent copy of the positions held."""
        fork = self._decoder.new_cache()
        fork.hold(self._buffers[:, :, : self._length])
        return fork

    def state(self) -> Float32:
        """A copy (2 * layers, positions, kv_heads, head_dim) of the positions held, keys before values."""
        return self._buffers[:, 0, : self._length].copy()

    def hold(self, positions: Float32) -> None:
        """Take over the positions (2 * layers, 1, positions, kv_heads, head_dim) of another cache."""
        self._length = positions.shape[2]
        self._buffers[:, :, : self._length] = positions
