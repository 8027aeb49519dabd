"""llama.cpp: the decoder and its token embedding from one GGUF entry of the package.

It runs decoders only; the audio encoder of such a package runs on another engine. Importing this module imports
llama-cpp-python.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass

import llama_cpp as llama
import numpy as np

from alm.engines.base import Graph
from alm.engines.gguf import Gguf, check_decoder, read_gguf
from alm.engines.gguf_table import TokenTable
from alm.engines.llama_decoder import LlamaDecoder
from alm.engines.llama_seat import LlamaModel, Room
from alm.engines.llama_state import StateLayout
from alm.errors import EngineError
from alm.memory import give_back
from alm.package import Package, section

FLOAT_SCHEME = "fp32"
"""Decoders of this scheme keep keys and values in float32 too, others in float16."""

_SILENT = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda level, text, data: None)
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.fopen.restype = ctypes.c_void_p
_LIBC.fopen.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
_LIBC.fseek.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_int]
_LIBC.fclose.argtypes = [ctypes.c_void_p]


@dataclass(frozen=True)
class Options:
    """What `alm.load(engine_options=...)` sets on this engine."""

    flash_attention: bool | None = None
    """Attention in one pass over keys and values, 1.15 times as fast. Its products are in float16 (2e-3 in the logits),
    so None, the default, leaves it out for a float32 package."""


DEFAULTS = Options()


def engine(threads: int, options: Options = DEFAULTS) -> LlamaCpp:
    """The engine with `threads` compute threads."""
    # Its running commentary goes to stderr otherwise.
    llama.llama_log_set(_SILENT, None)
    llama.llama_backend_init()
    return LlamaCpp(threads, options)


class LlamaCpp:
    """Loads decoders in GGUF."""

    name = "llama.cpp"

    def __init__(self, threads: int, options: Options) -> None:
        self.threads = threads
        """Compute threads of the decoder."""
        self.options = options
        """As asked for."""

    def load_graph(self, package: Package, component: str) -> Graph:
        """Always EngineError: llama.cpp has no graphs of its own making."""
        raise EngineError(f"llama.cpp cannot run the component {component}, only decoders; export the package again")

    def load_embedding(self, package: Package) -> TokenTable:
        """The table of the decoder's GGUF, read in place."""
        gguf = _checked(package)
        return TokenTable(package.view(gguf.name), gguf)

    def load_decoder(self, package: Package) -> LlamaDecoder:
        """Load the decoder with its token embedding."""
        component, shape = package.manifest.components["decoder"], section(package.manifest.decoder, "decoder")
        precise = component.scheme == FLOAT_SCHEME
        flash = not precise if self.options.flash_attention is None else self.options.flash_attention
        layout = StateLayout(shape, np.dtype("<f4" if precise else "<f2"), turned=not flash)
        gguf = _checked(package)
        table = TokenTable(package.view(gguf.name), gguf)
        model = _load_model(package, gguf.name)
        give_back()
        return LlamaDecoder(table, Room(model, layout, self.threads))


def _checked(package: Package) -> Gguf:
    """The header of the decoder, which is that of the manifest."""
    entry, other = (package.manifest.components[name].graph for name in ("decoder", "token_embedding"))
    if other != entry:
        raise EngineError(
            f"the token embedding is in {other!r} and the decoder in {entry!r}; llama.cpp reads both from one GGUF: "
            "export the package again"
        )
    gguf = read_gguf(package.view(entry), entry)
    check_decoder(gguf, section(package.manifest.decoder, "decoder"))
    return gguf


def _load_model(package: Package, entry: str) -> LlamaModel:
    file = _LIBC.fopen(os.fsencode(package.path), b"rb")
    if not file:
        raise EngineError(f"{package.path} cannot be opened again: {os.strerror(ctypes.get_errno())}")
    try:
        # The file was opened by name: it is the one that was checked only if the name still means it.
        if not package.in_place():
            raise EngineError(f"{package.path} was replaced or moved while it was being loaded; load it again")
        _LIBC.fseek(file, package.offset(entry), os.SEEK_SET)
        pointer = llama.llama_model_load_from_file_ptr(file, _parameters())
    finally:
        _LIBC.fclose(file)
    if not pointer:
        raise EngineError(f"llama.cpp {llama.__version__} cannot load {entry!r}; export the package again")
    return LlamaModel(pointer)


def _parameters() -> llama.llama_model_params:
    parameters = llama.llama_model_default_params()
    # llama.cpp packs most weights anew. A map of the file would stay resident beside them: 56 MB at full size.
    parameters.load_mode = llama.LLAMA_LOAD_MODE_NONE
    # The SDK has a tokenizer already; llama.cpp's takes 12 MB and half of the time to load.
    overrides = (llama.llama_model_kv_override * 2)()
    overrides[0].tag, overrides[0].key = llama.LLAMA_KV_OVERRIDE_TYPE_STR, b"tokenizer.ggml.model"
    overrides[0].value.val_str = b"no_vocab"
    parameters.kv_overrides = overrides
    return parameters
