"""Engines' own runners on Mellow's decoder alone: a prefix of Mellow's length, then greedy decoding.

A runner is opened once and then run as often as wanted; `alm_bench.measuring.repeats` decides how often, and what of it
counts.
"""

from __future__ import annotations

import ctypes
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

Append = Callable[[int, int | None], int]
"""From a position and a token to the next token; without a token it reads the prefix."""
PREFIX = 389
"""Positions before Mellow's first generated token."""


@dataclass(frozen=True)
class Runner:
    """An engine that has opened its model."""

    load: float
    """Seconds that opening took."""
    once: Callable[[], dict[str, float]]
    """Runs the prefix and decodes; seconds of the stages `prefix` and `decode`, the first token in the former."""
    cache_bytes: int = 0
    """Bytes of the prefix's keys and values, where only the engine knows their precision."""


def llama_cpp(path: Path, threads: int, tokens: int) -> Runner:
    """llama.cpp on a GGUF file, through its C interface; embeddings go in."""
    import llama_cpp as llama

    llama.llama_backend_init()
    started = time.perf_counter()
    model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
    options = llama.llama_context_default_params()
    options.n_ctx, options.n_batch, options.n_ubatch = 704, 512, 512
    options.n_threads = options.n_threads_batch = threads
    context = llama.llama_init_from_model(model, options)
    load = time.perf_counter() - started
    width, vocabulary = llama.llama_model_n_embd(model), llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    rows = prefix_rows(width)
    batch, step = llama.llama_batch_init(PREFIX, width, 1), llama.llama_batch_init(1, 0, 1)
    ctypes.memmove(batch.embd, rows.ctypes.data, rows.nbytes)

    def append(position: int, token: int | None) -> int:
        if token is None:
            return _llama_step(llama, context, batch, PREFIX, 0, vocabulary)
        step.token[0] = token
        return _llama_step(llama, context, step, 1, position, vocabulary)

    def once() -> dict[str, float]:
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        return greedy(append, tokens)

    return Runner(load, once)


def onnxruntime(folder: Path, threads: int, tokens: int) -> Runner:
    """onnxruntime's own session over the graphs of an unzipped package, keys and values bound in place."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    started = time.perf_counter()
    session = ort.InferenceSession(folder / "decoder.onnx", options)
    embedding = ort.InferenceSession(folder / "token_embedding.onnx", options)
    load = time.perf_counter() - started
    append = onnx_append(session, embedding)
    return Runner(load, lambda: greedy(append, tokens))


def onnx_append(session: Any, embedding: Any) -> Append:
    """What runs a packaged decoder's session on the prefix or on a token; keys and values stay where they are."""
    import numpy as np
    import onnxruntime as ort

    binding = session.io_binding()
    for value in session.get_inputs():
        if value.name.startswith("past_"):
            buffer = ort.OrtValue.ortvalue_from_numpy(
                np.zeros(value.shape, np.int8 if value.type == "tensor(int8)" else np.float32)
            )
            binding.bind_ortvalue_input(value.name, buffer)
            binding.bind_ortvalue_output(value.name.replace("past", "present"), buffer)
    binding.bind_output("logits")
    prefix = prefix_rows(session.get_inputs()[0].shape[-1])

    def append(position: int, token: int | None) -> int:
        rows = prefix if token is None else embedding.run(None, {"ids": np.array([token])})[0]
        total = position + len(rows)
        binding.bind_cpu_input("embeddings", rows[np.newaxis])
        binding.bind_cpu_input("rows", np.array([len(rows) - 1]))
        binding.bind_cpu_input("last_position", np.array([total - 1], np.int32))
        binding.bind_cpu_input("total_length", np.array(total, np.int32))
        session.run_with_iobinding(binding)
        return int(binding.get_outputs()[-1].numpy()[0].argmax())

    return append


def executorch(folder: Path, threads: int, tokens: int) -> Runner:
    """ExecuTorch's own runtime on the methods that its language model runners call, keys and values inside."""
    import numpy as np
    import torch
    from executorch.extension.llm.custom_ops import custom_ops  # type: ignore[import-not-found]  # noqa: F401
    from executorch.extension.pybindings import _C as runtime  # type: ignore[import-not-found]
    from executorch.runtime import Runtime  # type: ignore[import-not-found]

    runtime._unsafe_reset_threadpool(threads)
    started = time.perf_counter()
    program = Runtime.get().load_program(folder / "model.pte")
    decoder, embedding = program.load_method("text_decoder"), program.load_method("token_embedding")
    load = time.perf_counter() - started
    width = embedding.execute([torch.zeros(1, 1, dtype=torch.long)])[0].shape[-1]
    prefix = torch.from_numpy(prefix_rows(width))[None]

    def append(position: int, token: int | None) -> int:
        rows = prefix if token is None else embedding.execute([torch.tensor([[token]])])[0]
        return int(np.asarray(decoder.execute([rows, torch.tensor([position])])[0]).argmax())

    return Runner(load, lambda: greedy(append, tokens))


def genai(folder: Path, threads: int, tokens: int) -> Runner:
    """onnxruntime-genai's own generator on what its own builder made; token ids go in."""
    import numpy as np
    import onnxruntime_genai  # type: ignore[import-not-found]

    settings = folder / "genai_config.json"
    config = json.loads(settings.read_text())
    config["model"]["decoder"]["session_options"]["intra_op_num_threads"] = threads
    settings.write_text(json.dumps(config))
    started = time.perf_counter()
    model = onnxruntime_genai.Model(str(folder))
    load = time.perf_counter() - started
    ids = (np.arange(PREFIX) % 1000).astype(np.int32)

    def once() -> dict[str, float]:
        parameters = onnxruntime_genai.GeneratorParams(model)
        parameters.set_search_options(max_length=PREFIX + tokens + 1, min_length=PREFIX + tokens, do_sample=False)
        generator = onnxruntime_genai.Generator(model, parameters)

        def append(position: int, token: int | None) -> int:
            if token is None:
                generator.append_tokens(ids)
            generator.generate_next_token()
            return int(generator.get_next_tokens()[0])

        return greedy(append, tokens)

    return Runner(load, once)


OWN_RUNNERS: dict[str, Callable[[Path, int, int], Runner]] = {
    "onnxruntime": onnxruntime,
    "llama.cpp": llama_cpp,
    "executorch": executorch,
    "onnxruntime-genai": genai,
}
"""By engine: file or folder, threads and tokens to a runner."""


def prefix_rows(width: int) -> np.ndarray:
    """Embeddings of a prefix, (PREFIX, width) float32, the same for all."""
    import numpy as np

    return (0.02 * np.random.default_rng(0).standard_normal((PREFIX, width))).astype(np.float32)


def greedy(append: Append, tokens: int) -> dict[str, float]:
    """Seconds of the prefix and of the steps behind it, which give all but the first of `tokens`."""
    started = time.perf_counter()
    token = append(0, None)
    first = time.perf_counter()
    for position in range(PREFIX, PREFIX + tokens - 1):
        token = append(position, token)
    return {"prefix": first - started, "decode": time.perf_counter() - first}


def _llama_step(llama: Any, context: Any, batch: Any, count: int, position: int, vocabulary: int) -> int:
    """Run `count` rows of a batch from `position` on; the likeliest next token."""
    import numpy as np

    batch.n_tokens = count
    for row in range(count):
        batch.pos[row], batch.n_seq_id[row], batch.seq_id[row][0] = position + row, 1, 0
        batch.logits[row] = row == count - 1
    if code := llama.llama_decode(context, batch):
        raise RuntimeError(f"llama_decode ended with {code}")
    return int(np.ctypeslib.as_array(llama.llama_get_logits_ith(context, -1), (vocabulary,)).argmax())
