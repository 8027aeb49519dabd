"""One measurement in a process of its own; prints one line of JSON.

python -m alm_bench.mellow_runs authors THREADS TOKENS
python -m alm_bench.mellow_runs package PACKAGE THREADS TOKENS
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

SECONDS, RATE = 10, 32000
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
    """The SDK on a package: two different clips, a question, and another question on the same clips."""
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
    following = [time.perf_counter() for _ in clip.stream(NEXT_QUESTION, max_tokens=1)]
    return {
        "load_s": load,
        "first_s": pieces[0] - started,
        "answer_s": pieces[-1] - started,
        "decode_rate": (len(pieces) - 1) / (pieces[-1] - pieces[0]),
        "next_first_s": following[0] - asked,
        "memory_mb": peak_mb() - bare,
    }


if __name__ == "__main__":
    arguments = sys.argv[2:]
    if sys.argv[1] == "authors":
        result = authors(*map(int, arguments))
    else:
        result = package(arguments[0], *map(int, arguments[1:]))
    print(json.dumps(result))
