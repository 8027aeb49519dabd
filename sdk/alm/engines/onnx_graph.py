"""onnxruntime itself, imported without its telemetry, and one loaded component of it: arrays in, arrays out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

# Official wheels from 1.29 on carry a telemetry uploader that is on unless this is set before the import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime as ort

from alm.engines.base import Array, Float32, Int64, check_ids
from alm.errors import EngineError
from alm.memory import give_back

__all__ = ["GIVING_BACK", "KEEPING", "OnnxEmbedding", "OnnxGraph", "ort"]

KEEPING, GIVING_BACK = ort.RunOptions(), ort.RunOptions()
"""Of runs after which the arena keeps its memory, and of those after which it frees it."""
GIVING_BACK.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")


class OnnxGraph:
    """One loaded component. Safe to call from several threads."""

    def __init__(self, session: ort.InferenceSession, *, gives_back: bool = False) -> None:
        """With `gives_back`, what a run took goes back to the system when it ends: the full-size encoder's 40 MB are
        free again before the decoder starts."""
        self._session = session
        self._gives_back = gives_back
        self._shapes = {output.name: output.shape for output in session.get_outputs()}

    def run(self, outputs: Sequence[str], **inputs: Array) -> dict[str, Array]:
        """Compute the named outputs; EngineError when names, types or shapes do not fit."""
        try:
            if self._gives_back:
                return self._run_apart(outputs, inputs)
            return dict(zip(outputs, self._session.run(list(outputs), inputs), strict=True))
        except Exception as error:
            raise EngineError(f"onnxruntime failed: {error}") from error
        finally:
            if self._gives_back:
                give_back()

    def _run_apart(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run with outputs outside of the arena: one that lies in it keeps 3 MB around it from being given back."""
        binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        found = {name: np.empty(self._shapes[name], np.float32) for name in outputs}
        for name, array in found.items():
            binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(array))
        self._session.run_with_iobinding(binding, GIVING_BACK)
        return found


class OnnxEmbedding:
    """Rows of the embedding table."""

    def __init__(self, graph: OnnxGraph, vocabulary: int) -> None:
        self._graph = graph
        self._vocabulary = vocabulary

    def __call__(self, ids: Int64) -> Float32:
        """(T,) ids to (T, width); EngineError for an id outside the vocabulary."""
        check_ids(ids, self._vocabulary)
        rows: Float32 = self._graph.run(["embeddings"], ids=ids)["embeddings"]
        return rows
