"""One measurement of one rival in a process of its own; prints one line of JSON.

    python -m alm_bench.rivals.runs RIVAL PATH THREADS TOKENS

PATH is what `alm_bench.rivals.files` made for it. All rivals compute in float32 unless their name says otherwise, start
from the same weights, and read a prefix of the same length; a rival that reads ids instead of embeddings reads as many.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from alm_bench.machine.residency import highest_mb
from alm_bench.measuring.repeats import repeated
from alm_bench.rivals.own_runners import OWN_RUNNERS, PREFIX, Runner
from alm_bench.rivals.sdk_runner import decoder_alone

Run = Callable[[Path, int, int], Runner]
CLIPS, SAMPLES = 2, 320_000
"""Two clips of 10 s at 32 kHz."""


def package(path: Path, threads: int, tokens: int) -> Runner:
    """Our package through the SDK: whole answers, and its decoder alone as the engines' own runners have it."""
    import alm
    from alm_bench.measuring.workloads import cache_bytes, workload

    started = time.perf_counter()
    model = alm.load(path, threads=threads)
    load = time.perf_counter() - started
    run, decoder, seeds = workload(model), model.reader.decoder, iter(range(1000))  # type: ignore[attr-defined]
    width = model.info.decoder.width  # type: ignore[union-attr]

    def once() -> dict[str, float]:
        stages = run(model, time.perf_counter, "s", tokens, next(seeds)).stages
        # An answer's `decode` also makes text of the tokens, which no runner does.
        return {**stages, **decoder_alone(decoder, width, tokens)}

    return Runner(load, once, cache_bytes(model))


def authors(path: Path, threads: int, tokens: int) -> Runner:
    """PyTorch float32 as the authors run it: no KV cache, logits of every position at every step."""
    import torch

    from alm_train.checkpoints.weights import load_weights

    torch.set_num_threads(threads)
    started = time.perf_counter()
    model = load_weights("random").model
    load = time.perf_counter() - started
    clips, ids = _clips(), torch.arange(model.config.prompt_tokens)[None]

    def once() -> dict[str, float]:
        with torch.inference_mode():
            started = time.perf_counter()
            one, other = model.audio_tokens(clips).split(1)
            embeddings = model.prefix(one, other, ids)
            encoded, marks = time.perf_counter(), []
            for _ in range(tokens):
                token = model.caption_decoder.lm(embeddings)[:, -1].argmax(-1, keepdim=True)
                marks.append(time.perf_counter())
                embeddings = torch.cat((embeddings, model.embed(token)), 1)
        return _stages(started, encoded, marks)

    return Runner(load, once)


def transformers(path: Path, threads: int, tokens: int) -> Runner:
    """The same PyTorch encoder, and the decoder as Hugging Face transformers runs it, with its KV cache."""
    import torch
    from transformers import LlamaForCausalLM

    from alm_train.checkpoints.weights import load_weights

    torch.set_num_threads(threads)
    started = time.perf_counter()
    model, decoder = load_weights("random").model, LlamaForCausalLM.from_pretrained(path).eval()
    load = time.perf_counter() - started
    clips, ids = _clips(), torch.arange(model.config.prompt_tokens)[None]

    def once() -> dict[str, float]:
        with torch.inference_mode():
            started = time.perf_counter()
            one, other = model.audio_tokens(clips).split(1)
            embeddings = model.prefix(one, other, ids)
            encoded = time.perf_counter()
            out = decoder(inputs_embeds=embeddings, use_cache=True, logits_to_keep=1)
            marks = [time.perf_counter()]
            for _ in range(tokens - 1):
                token = out.logits[:, -1].argmax(-1, keepdim=True)
                out = decoder(token, past_key_values=out.past_key_values, use_cache=True)
                marks.append(time.perf_counter())
        return _stages(started, encoded, marks)

    return Runner(load, once)


def onnx_naive(path: Path, threads: int, tokens: int) -> Runner:
    """The decoder as torch.onnx exports it, in onnxruntime: no KV cache, so every step computes every position."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    started = time.perf_counter()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    load = time.perf_counter() - started

    def once() -> dict[str, float]:
        ids = (np.arange(PREFIX) % 1000)[None]
        marks = [time.perf_counter()]
        for _ in range(tokens):
            (logits,) = session.run(["logits"], {"input_ids": ids})
            ids = np.concatenate([ids, logits[:, -1:].argmax(-1)], 1)
            marks.append(time.perf_counter())
        return {"prefix": marks[1] - marks[0], "decode": marks[-1] - marks[1]}

    return Runner(load, once)


RUNS: dict[str, Run] = {
    "package": package,
    "authors": authors,
    "transformers": transformers,
    "onnx-naive": onnx_naive,
    **OWN_RUNNERS,
}


def main(rival: str, path: str, threads: str, tokens: str) -> None:
    """Measure and print."""
    bare, peaks = highest_mb(), []
    runner = RUNS[rival](Path(path), int(threads), int(tokens))
    stages = {"load": runner.load, **repeated(runner.once, lambda: peaks.append(highest_mb() - bare))}
    told = {"unit": "s", "positions": PREFIX, "steps": int(tokens) - 1, "cache_bytes": runner.cache_bytes}
    print(json.dumps({**told, "stages": stages, "peak_mb": peaks[0]}))


def _clips():  # type: ignore[no-untyped-def]
    import torch

    return torch.from_numpy(0.1 * np.random.default_rng(0).standard_normal((CLIPS, SAMPLES))).float()


def _stages(started: float, encoded: float, marks: list[float]) -> dict[str, float]:
    """Stages of a whole answer, from when it was asked, its clips were encoded and each token was there."""
    stages = {"encode": encoded - started, "prefix": marks[0] - encoded, "decode": marks[-1] - marks[0]}
    return {**stages, "answer": marks[-1] - started}


if __name__ == "__main__":
    main(*sys.argv[1:])
