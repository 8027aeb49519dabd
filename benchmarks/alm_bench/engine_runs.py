"""One engine's decoder measured in a process of its own, through the SDK or through the engine's own runner.

python -m alm_bench.engine_runs sdk:ENGINE PACKAGE THREADS TOKENS
python -m alm_bench.engine_runs onnxruntime|llama.cpp|executorch FOLDER THREADS TOKENS

FOLDER is a package unzipped: a runner of the engine itself opens the same weights as the SDK. Prints a line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alm_bench.mellow_runs import PREFIX, llama_cpp, peak_mb

if TYPE_CHECKING:
    import numpy as np

Append = Callable[["np.ndarray", int], Any]
"""Runs rows (T, width) at positions from the given one on; what it returns begins with the last one's logits."""


def sdk(engine: str, package: str, threads: int, tokens: int) -> dict[str, float]:
    """The SDK's decoder: token ids in, the embedding looked up, the likeliest id out."""
    bare = peak_mb()
    import numpy as np

    import alm

    started = time.perf_counter()
    model = alm.load(package, engine=engine, threads=threads)
    load = time.perf_counter() - started
    decoder, width = model.reader.decoder, model.info.decoder.width
    rows = _rows(width)
    for _ in range(2):
        cache = decoder.new_cache()
        started = time.perf_counter()
        logits = cache.append(rows)
        first = time.perf_counter()
        for _ in range(tokens - 1):
            logits = cache.append(decoder.embed(np.array([logits.argmax()])))
        ended = time.perf_counter()
    return _result(load, started, first, ended, tokens, bare)


def onnxruntime(folder: str, threads: int, tokens: int) -> dict[str, float]:
    """onnxruntime's own session over the same graphs, keys and values bound in place."""
    bare = peak_mb()
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    started = time.perf_counter()
    session = ort.InferenceSession(Path(folder) / "decoder.onnx", options)
    embedding = ort.InferenceSession(Path(folder) / "token_embedding.onnx", options)
    load = time.perf_counter() - started
    binding = session.io_binding()
    for value in session.get_inputs():
        if value.name.startswith("past_"):
            buffer = ort.OrtValue.ortvalue_from_numpy(np.zeros(value.shape, np.float32))
            binding.bind_ortvalue_input(value.name, buffer)
            binding.bind_ortvalue_output(value.name.replace("past", "present"), buffer)
    binding.bind_output("logits")

    def append(rows: np.ndarray, position: int) -> np.ndarray:
        total = position + len(rows)
        binding.bind_cpu_input("embeddings", rows[np.newaxis])
        binding.bind_cpu_input("rows", np.array([len(rows) - 1]))
        binding.bind_cpu_input("last_position", np.array([total - 1], np.int32))
        binding.bind_cpu_input("total_length", np.array(total, np.int32))
        session.run_with_iobinding(binding)
        logits: np.ndarray = binding.get_outputs()[-1].numpy()[0]
        return logits

    rows = _rows(session.get_inputs()[0].shape[-1])
    for _ in range(2):
        started = time.perf_counter()
        logits = append(rows, 0)
        first = time.perf_counter()
        for position in range(PREFIX, PREFIX + tokens - 1):
            [row] = embedding.run(None, {"ids": np.array([logits.argmax()])})
            logits = append(row, position)
        ended = time.perf_counter()
    return _result(load, started, first, ended, tokens, bare)


def executorch(folder: str, threads: int, tokens: int) -> dict[str, float]:
    """ExecuTorch's own runtime on the methods that its language model runners call, keys and values inside."""
    bare = peak_mb()
    import numpy as np
    import torch
    from executorch.extension.llm.custom_ops import custom_ops  # type: ignore[import-not-found]  # noqa: F401
    from executorch.extension.pybindings import _C as runtime  # type: ignore[import-not-found]
    from executorch.runtime import Runtime  # type: ignore[import-not-found]

    runtime._unsafe_reset_threadpool(threads)
    started = time.perf_counter()
    program = Runtime.get().load_program(Path(folder) / "model.pte")
    decoder, embedding = program.load_method("text_decoder"), program.load_method("token_embedding")
    load = time.perf_counter() - started
    width = embedding.execute([torch.zeros(1, 1, dtype=torch.long)])[0].shape[-1]
    rows = torch.from_numpy(_rows(width))[None]
    for _ in range(2):
        started = time.perf_counter()
        logits = decoder.execute([rows, torch.tensor([0])])[0]
        first = time.perf_counter()
        for position in range(PREFIX, PREFIX + tokens - 1):
            token = torch.from_numpy(np.asarray(logits)).argmax().reshape(1, 1)
            logits = decoder.execute([embedding.execute([token])[0], torch.tensor([position])])[0]
        ended = time.perf_counter()
    return _result(load, started, first, ended, tokens, bare)


def _rows(width: int) -> np.ndarray:
    import numpy as np

    return (0.02 * np.random.default_rng(0).standard_normal((PREFIX, width))).astype(np.float32)


def _result(load: float, started: float, first: float, ended: float, tokens: int, bare: float) -> dict[str, float]:
    rate = (tokens - 1) / (ended - first)
    return {"load_s": load, "prefill_s": first - started, "decode_rate": rate, "memory_mb": peak_mb() - bare}


if __name__ == "__main__":
    side, path, threads, tokens = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    kind, _, engine = side.partition(":")
    if kind == "sdk":
        result = sdk(engine, path, threads, tokens)
    elif kind == "llama.cpp":
        result = llama_cpp(str(Path(path) / "decoder.gguf"), threads, tokens)
    else:
        result = {"onnxruntime": onnxruntime, "executorch": executorch}[kind](path, threads, tokens)
    print(json.dumps(result))
