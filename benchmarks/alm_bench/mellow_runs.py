"""One measurement in a process of its own; prints one line of JSON.

python -m alm_bench.mellow_runs authors THREADS TOKENS
python -m alm_bench.mellow_runs package PACKAGE THREADS TOKENS
python -m alm_bench.mellow_runs llama_cpp GGUF THREADS TOKENS
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from pathlib import Path
from typing import Any

SECONDS, RATE = 10, 32000
PREFIX = 389
"""Positions before Mellow's first generated token."""
QUESTION, NEXT_QUESTION = "explain the difference in few words.", "which clip is louder?"


def peak_mb() -> float:
    """Largest resident size of this process so far, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def authors(threads: int, tokens: int) -> dict[str, float]:
    """PyTorch float32 as the authors run it: no KV cache, logits of every position at every step."""
    bare = peak_mb()
    import torch

    from alm_train.checkpoints.weights import load_weights

    torch.set_num_threads(threads)
    started = time.perf_counter()
    model = load_weights("random").model
    load = time.perf_counter() - started
    generator = torch.Generator().manual_seed(0)
    clips = 0.1 * torch.randn(2, SECONDS * RATE, generator=generator)
    ids = torch.arange(model.config.prompt_tokens)[None]
    with torch.inference_mode():
        started = time.perf_counter()
        first, second = model.audio_tokens(clips).split(1)
        embeddings = model.prefix(first, second, ids)
        for step in range(tokens):
            token = model.caption_decoder.lm(embeddings)[:, -1].argmax(-1, keepdim=True)
            if step == 0:
                first_s = time.perf_counter() - started
            embeddings = torch.cat((embeddings, model.embed(token)), 1)
        answer = time.perf_counter() - started
    rate = (tokens - 1) / (answer - first_s)
    return {
        "load_s": load,
        "first_s": first_s,
        "answer_s": answer,
        "decode_rate": rate,
        "memory_mb": peak_mb() - bare,
    }


def package(path: str, threads: int, tokens: int) -> dict[str, float]:
    """The SDK on a package: two different clips, a question, and another on the same clips, whose decoding counts."""
    bare = peak_mb()
    import numpy as np

    import alm

    noise = (0.1 * np.random.default_rng(0).standard_normal((2, SECONDS * RATE))).astype(np.float32)
    started = time.perf_counter()
    model = alm.load(path, threads=threads)
    load = time.perf_counter() - started
    started = time.perf_counter()
    clip = model.listen((noise[0], RATE), (noise[1], RATE))
    pieces = [time.perf_counter() for _ in clip.stream(QUESTION, max_tokens=tokens)]
    asked = time.perf_counter()
    following = [time.perf_counter() for _ in clip.stream(NEXT_QUESTION, max_tokens=tokens)]
    return {
        "load_s": load,
        "first_s": pieces[0] - started,
        "answer_s": pieces[-1] - started,
        "decode_rate": (len(following) - 1) / (following[-1] - following[0]),
        "next_first_s": following[0] - asked,
        "memory_mb": peak_mb() - bare,
    }


def llama_cpp(path: str, threads: int, tokens: int) -> dict[str, float]:
    """llama.cpp on the decoder alone, through its C interface: a prefix of Mellow's length as embeddings, then greedy
    decoding. Twice, and the second counts, as for a package: the first run also reads the weights."""
    bare = peak_mb()
    import llama_cpp as llama
    import numpy as np

    llama.llama_backend_init()
    started = time.perf_counter()
    model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
    options = llama.llama_context_default_params()
    options.n_ctx, options.n_batch, options.n_ubatch = 704, 512, 512
    options.n_threads = options.n_threads_batch = threads
    context = llama.llama_init_from_model(model, options)
    load = time.perf_counter() - started
    width, vocabulary = llama.llama_model_n_embd(model), llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    prefix = (0.02 * np.random.default_rng(0).standard_normal((PREFIX, width))).astype(np.float32)
    batch, step = llama.llama_batch_init(PREFIX, width, 1), llama.llama_batch_init(1, 0, 1)
    ctypes.memmove(batch.embd, prefix.ctypes.data, prefix.nbytes)
    for _ in range(2):
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        started = time.perf_counter()
        token = _llama_step(llama, context, batch, PREFIX, 0, vocabulary)
        first = time.perf_counter()
        for position in range(PREFIX, PREFIX + tokens - 1):
            step.token[0] = token
            token = _llama_step(llama, context, step, 1, position, vocabulary)
        decode = time.perf_counter() - first
    return {
        "load_s": load,
        "prefill_s": first - started,
        "decode_rate": (tokens - 1) / decode,
        "memory_mb": peak_mb() - bare,
    }


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


if __name__ == "__main__":
    side, *arguments = sys.argv[1:]
    if side == "authors":
        result = authors(*map(int, arguments))
    else:
        run = {"package": package, "llama_cpp": llama_cpp}[side]
        result = run(arguments[0], *map(int, arguments[1:]))
    print(json.dumps(result))
