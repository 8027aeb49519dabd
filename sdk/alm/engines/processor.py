"""Whether an engine's library runs on this processor, tried in a process of its own.

A library that was compiled for a newer processor ends the process by an illegal instruction, which no handler in it can
turn into an error. llama.cpp compiled for AVX-512 does so when it is imported on a Nehalem, and on a Haswell not before
it is initialised (both emulated); what only its products use would end it later still, so the features that it says it
was compiled for are compared with the processor's too. The verdict is kept for as long as library and processor stay
the same.
"""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from alm.engines.trials import fault_of, run_apart, verdict
from alm.engines.versions import LIBRARIES
from alm.errors import EngineError


@dataclass(frozen=True)
class Trial:
    """How an engine's library is tried."""

    module: str
    """What is imported."""
    files: str
    """Its native files, below the module's folder."""
    program: str
    """Loads the library and may print the features it was compiled for, as `NAME = 1`."""


TRIALS = {
    "onnxruntime": Trial("onnxruntime", "capi/*.so*", "import onnxruntime"),
    "llama.cpp": Trial(
        "llama_cpp",
        "lib/*.so*",
        "import llama_cpp; llama_cpp.llama_backend_init(); print(llama_cpp.llama_print_system_info().decode())",
    ),
    "executorch": Trial(
        "executorch", "extension/pybindings/*.so*", "import torch; import executorch.extension.pybindings._C"
    ),
}

COMPILED_FOR = {
    "SSE3": "pni", "SSSE3": "ssse3", "AVX": "avx", "AVX_VNNI": "avx_vnni", "AVX2": "avx2", "F16C": "f16c", "FMA": "fma",
    "BMI2": "bmi2", "AVX512": "avx512f", "AVX512_VBMI": "avx512vbmi", "AVX512_VNNI": "avx512_vnni",
    "AVX512_BF16": "avx512_bf16", "AMX_INT8": "amx_int8", "NEON": "asimd", "FP16_VA": "asimdhp", "DOTPROD": "asimddp",
    "MATMUL_INT8": "i8mm", "SVE": "sve", "SME": "sme",
}  # fmt: skip
"""A feature as llama.cpp prints it, and as /proc/cpuinfo does."""


def features(cpuinfo: str) -> frozenset[str]:
    """The features that all processors of a /proc/cpuinfo have."""
    lines = [
        line.split(":", 1)[1]
        for line in cpuinfo.splitlines()
        if ":" in line and line.lower().startswith(("flags", "features"))
    ]
    # On a big.LITTLE chip a kernel may run on any core, so a feature counts when all cores have it.
    return frozenset(set.intersection(*(set(line.split()) for line in lines))) if lines else frozenset()


def check_processor(engine: str) -> None:
    """EngineError when the engine's library cannot run on this processor; nothing when it is not installed."""
    trial = TRIALS.get(engine)
    # What is loaded already has shown that it can be.
    if trial is None or trial.module in sys.modules:
        return
    spec = importlib.util.find_spec(trial.module)
    if spec is None or not spec.submodule_search_locations:
        return
    folder = Path(spec.submodule_search_locations[0])
    available = features(_read(Path("/proc/cpuinfo")))
    if wrong := verdict(_key(folder, trial, available), lambda: _try(trial, available)):
        library = LIBRARIES[engine][0]
        raise EngineError(
            f"the library of the engine {engine!r} in {folder} {wrong}: it was built for another processor. "
            f"Install it on this machine again: "
            f"pip install --force-reinstall --no-cache-dir '{library.name}=={library.tested}'"
        )


def _try(trial: Trial, available: frozenset[str]) -> str | None:
    """What is wrong with the library; empty when it loads, None when that could not be found out."""
    done = run_apart(trial.program)
    if fault := fault_of(done):
        return f"ends with the signal {fault} when it is loaded"
    if done is None or fault is None:
        return None
    printed = done.stdout.decode(errors="replace").replace(" ", "").replace(":", "|")
    words = [word.split("=") for word in printed.split("|") if "=" in word]
    wanted = {COMPILED_FOR[name] for name, value in words if name in COMPILED_FOR and value == "1"}
    if missing := sorted(wanted - available) if available else []:
        return f"uses {', '.join(missing)}, which this processor lacks"
    return ""


def _key(folder: Path, trial: Trial, available: frozenset[str]) -> str:
    parts = [trial.program, platform.machine(), *sorted(available)]
    for path in sorted(folder.glob(trial.files)):
        status = path.stat()
        parts += [str(path), str(status.st_size), str(status.st_mtime_ns)]
    return hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
