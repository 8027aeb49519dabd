"""Engines by name. Nothing here imports one before a package asks for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from types import ModuleType

from alm.engines.base import Decoder, Engine, Graph, KVCache
from alm.engines.options import NoOptions, read_options, share_options
from alm.engines.processor import check_processor
from alm.engines.versions import check_versions
from alm.errors import DependencyError, EngineError

__all__ = ["ENGINES", "EXTRAS", "Decoder", "Engine", "Graph", "KVCache", "load_engine", "load_engines"]

ENGINES = {
    "onnxruntime": "alm.engines.onnxruntime",
    "llama.cpp": "alm.engines.llama_cpp",
    "executorch": "alm.engines.executorch",
}
"""Name in manifests to the module whose `engine(threads)` makes it, or `engine(threads, options)` where it has
`Options`, a frozen dataclass of what can be set on it."""
EXTRAS = {"llama.cpp": "alm-edge[gguf]", "executorch": "alm-edge[executorch]"}
"""What to install for an engine whose library the base install leaves out."""
MAX_THREADS = 1024
"""More than any machine has cores; a runtime that is asked for 100,000 is busy starting them for minutes."""


def load_engine(name: str, threads: int | None = None, options: Mapping[str, object] | None = None) -> Engine:
    """An engine that computes with `threads` threads (default: one per usable core); `options` are its own.

    EngineError for an unknown name or option, threads below 1 or above MAX_THREADS, a library in a version outside
    the matrix and one that this processor cannot run; DependencyError when the library is not installed.
    """
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise EngineError(f"threads is {threads}, expected 1 to {MAX_THREADS}; more than cores gains nothing")
    count = threads or len(os.sched_getaffinity(0))
    module = _module(name)
    chosen: object = read_options(_options(module), name, options or {})
    engine: Engine = module.engine(count) if isinstance(chosen, NoOptions) else module.engine(count, chosen)
    return engine


def load_engines(
    names: Iterable[str], threads: int | None = None, options: Mapping[str, object] | None = None
) -> dict[str, Engine]:
    """Engines by name; each of `options` goes to those that have it. Errors as of `load_engine`."""
    names = sorted(set(names))
    shares = share_options({name: _options(_module(name)) for name in names}, options or {})
    return {name: load_engine(name, threads, shares[name]) for name in names}


def _options(module: ModuleType) -> type:
    options: type = getattr(module, "Options", NoOptions)
    return options


def _module(name: str) -> ModuleType:
    if name not in ENGINES:
        raise EngineError(f"unknown engine {name!r}; this version has: {', '.join(ENGINES)}")
    if ENGINES[name] not in sys.modules:
        check_versions(name)
        check_processor(name)
    try:
        return import_module(ENGINES[name])
    except ImportError as error:
        raise DependencyError(
            f"the engine {name!r} needs a library that cannot be imported ({error}); "
            f"install it with: pip install '{EXTRAS.get(name, 'alm-edge')}'"
        ) from error
