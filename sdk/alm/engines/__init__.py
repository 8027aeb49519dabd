"""Engines by name. Nothing here imports one before a package asks for it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from alm.engines.base import Decoder, Engine, Graph, KVCache
from alm.errors import DependencyError, EngineError

__all__ = ["ENGINES", "EXTRAS", "Decoder", "Engine", "Graph", "KVCache", "load_engine"]

ENGINES = {"onnxruntime": "alm.engines.onnxruntime", "llama.cpp": "alm.engines.llama_cpp"}
"""Name in manifests to the module whose `engine(threads)` makes it."""
EXTRAS = {"llama.cpp": "alm-edge[gguf]"}
"""What to install for an engine whose library the base install leaves out."""


def load_engine(name: str, threads: int | None = None) -> Engine:
    """An engine that computes with `threads` threads (default: one per usable core).

    EngineError for an unknown name, DependencyError when the engine's library is not installed.
    """
    if name not in ENGINES:
        raise EngineError(f"unknown engine {name!r}; this version has: {', '.join(ENGINES)}")
    try:
        make: Callable[[int | None], Engine] = import_module(ENGINES[name]).engine
    except ImportError as error:
        raise DependencyError(
            f"the engine {name!r} needs a library that cannot be imported ({error}); "
            f"install it with: pip install '{EXTRAS.get(name, 'alm-edge')}'"
        ) from error
    return make(threads)
