"""One measurement of one rival in a process of its own; prints one line of JSON.

    python -m alm_bench.rival_runs RIVAL PATH THREADS TOKENS

PATH is what `alm_bench.rivals` made for it. All rivals compute in float32 unless their name says otherwise, start from
the same weights, and read a prefix of the same length; a rival that reads ids instead of embeddings reads as many.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from alm_bench import mellow_runs
from alm_bench.residency import highest_mb

PREFIX = mellow_runs.PREFIX
Figures = dict[str, Any]


def package(path: Path, threads: int, tokens: int) -> Figures:
    """Our package through the SDK, whole, and its decoder on a prefix of the rivals' length."""
    import alm
    from alm_bench.clocks import clock
    from alm_bench.workloads import workload

    now, unit = clock()
    started = now()
    with alm.load(path, threads=threads) as model:
        load = now() - started
        done = workload(model)(model, now, unit, tokens)
        decoder = model.reader.decoder  # type: ignore[attr-defined]
        width = model.info.decoder.width  # type: ignore[union-attr]
        cache, rows = decoder.new_cache(), (0.02 * np.random.default_rng(0).standard_normal((PREFIX, width)))
        started = now()
        cache.append(rows.astype(np.float32))
        prefix = now() - started
    return {"stages": {"load": load, **done.stages, "prefix": prefix}, "steps": done.steps}


def authors(path: Path, threads: int, tokens: int) -> Figures:
    """The authors' way: PyTorch, no KV cache, logits of every position at every step."""
    return _older(mellow_runs.authors(threads, tokens), tokens)


def llama_cpp(path: Path, threads: int, tokens: int) -> Figures:
    """llama.cpp on the decoder, through its C interface."""
    return _older(mellow_runs.llama_cpp(str(path), threads, tokens), tokens)


def transformers(path: Path, threads: int, tokens: int) -> Figures:
    """The same PyTorch encoder, and the decoder as Hugging Face transformers runs it, with its KV cache."""
    import torch
    from transformers import LlamaForCausalLM

    from alm_train.checkpoints.weights import load_weights

    torch.set_num_threads(threads)
    started = time.perf_counter()
    model = load_weights("random").model
    decoder = LlamaForCausalLM.from_pretrained(path).eval()
    load = time.perf_counter() - started
    clips = torch.from_numpy(0.1 * np.random.default_rng(0).standard_normal((2, 320_000))).float()
    with torch.inference_mode():
        started = time.perf_counter()
        first, second = model.audio_tokens(clips).split(1)
        embeddings = model.prefix(first, second, torch.arange(model.config.prompt_tokens)[None])
        encoded = time.perf_counter()
        out = decoder(inputs_embeds=embeddings, use_cache=True, logits_to_keep=1)
        prefix = time.perf_counter()
        for _ in range(tokens - 1):
            token = out.logits[:, -1].argmax(-1, keepdim=True)
            out = decoder(token, past_key_values=out.past_key_values, use_cache=True)
        done = time.perf_counter()
    stages = {"load": load, "encode": encoded - started, "prefix": prefix - encoded, "decode": done - prefix}
    return {"stages": {**stages, "answer": done - started}, "steps": tokens - 1}


def onnx_naive(path: Path, threads: int, tokens: int) -> Figures:
    """The decoder as torch.onnx exports it, in onnxruntime: no KV cache, so every step computes every position."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    started = time.perf_counter()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    load = time.perf_counter() - started
    ids = (np.arange(PREFIX) % 1000)[None]
    marks = [time.perf_counter()]
    for _ in range(tokens):
        (logits,) = session.run(["logits"], {"input_ids": ids})
        ids = np.concatenate([ids, logits[:, -1:].argmax(-1)], 1)
        marks.append(time.perf_counter())
    stages = {"load": load, "prefix": marks[1] - marks[0], "decode": marks[-1] - marks[1]}
    return {"stages": stages, "steps": tokens - 1}


def genai(path: Path, threads: int, tokens: int) -> Figures:
    """The decoder as onnxruntime-genai's own builder makes it and its own generator runs it."""
    import onnxruntime_genai

    config = json.loads((path / "genai_config.json").read_text())
    config["model"]["decoder"]["session_options"]["intra_op_num_threads"] = threads
    (path / "genai_config.json").write_text(json.dumps(config))
    started = time.perf_counter()
    model = onnxruntime_genai.Model(str(path))
    load = time.perf_counter() - started
    # Twice, and the second counts, as for llama.cpp: the first run also prepares.
    for _ in range(2):
        parameters = onnxruntime_genai.GeneratorParams(model)
        parameters.set_search_options(max_length=PREFIX + tokens + 1, min_length=PREFIX + tokens, do_sample=False)
        generator = onnxruntime_genai.Generator(model, parameters)
        started = time.perf_counter()
        generator.append_tokens((np.arange(PREFIX) % 1000).astype(np.int32))
        generator.generate_next_token()
        prefix = time.perf_counter()
        for _ in range(tokens - 1):
            generator.generate_next_token()
        done = time.perf_counter()
        del generator
    return {"stages": {"load": load, "prefix": prefix - started, "decode": done - prefix}, "steps": tokens - 1}


RUNS: dict[str, Callable[[Path, int, int], Figures]] = {
    "package": package,
    "authors": authors,
    "transformers": transformers,
    "llama.cpp": llama_cpp,
    "onnx-naive": onnx_naive,
    "onnxruntime-genai": genai,
}


def main(rival: str, path: str, threads: str, tokens: str) -> None:
    """Measure and print."""
    bare = highest_mb()
    figures = RUNS[rival](Path(path), int(threads), int(tokens))
    print(json.dumps({**figures, "unit": "s", "positions": PREFIX, "peak_mb": highest_mb() - bare}))


def _older(figures: dict[str, float], tokens: int) -> Figures:
    names = {"load_s": "load", "prefill_s": "prefix", "first_s": "first_token", "answer_s": "answer"}
    stages = {stage: figures[name] for name, stage in names.items() if name in figures}
    return {"stages": {**stages, "decode": (tokens - 1) / figures["decode_rate"]}, "steps": tokens - 1}


if __name__ == "__main__":
    main(*sys.argv[1:])
