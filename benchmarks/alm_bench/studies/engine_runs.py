"""One engine's decoder measured in a process of its own, through the SDK or through the engine's own runner.

python -m alm_bench.studies.engine_runs sdk:ENGINE PACKAGE THREADS TOKENS
python -m alm_bench.studies.engine_runs onnxruntime|llama.cpp|executorch FOLDER THREADS TOKENS

FOLDER is a package unzipped: a runner of the engine itself opens the same weights as the SDK. Prints a line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from alm_bench.machine.residency import highest_mb
from alm_bench.measuring.repeats import repeated
from alm_bench.rivals.own_runners import OWN_RUNNERS, Runner, prefix_rows

if TYPE_CHECKING:
    from alm.engines.base import Decoder


def sdk(engine: str, package: Path, threads: int, tokens: int) -> Runner:
    """The SDK's decoder."""
    import alm

    started = time.perf_counter()
    model = alm.load(package, engine=engine, threads=threads)
    load = time.perf_counter() - started
    decoder = model.reader.decoder
    return Runner(load, lambda: decoder_alone(decoder, model.info.decoder.width, tokens))


def decoder_alone(decoder: Decoder, width: int, tokens: int) -> dict[str, float]:
    """Seconds of a prefix and of greedy steps: token ids in, the embedding looked up, the likeliest id out."""
    import numpy as np

    rows, cache = prefix_rows(width), decoder.new_cache()
    started = time.perf_counter()
    logits = cache.append(rows)
    first = time.perf_counter()
    for _ in range(tokens - 1):
        logits = cache.append(decoder.embed(np.array([logits.argmax()])))
    return {"prefix": first - started, "decode": time.perf_counter() - first}


def main(side: str, path: str, threads: str, tokens: str) -> None:
    """Measure and print."""
    bare = highest_mb()
    kind, _, engine = side.partition(":")
    place, counts = Path(path), (int(threads), int(tokens))
    if kind == "sdk":
        runner = sdk(engine, place, *counts)
    else:
        runner = OWN_RUNNERS[kind](place / "decoder.gguf" if kind == "llama.cpp" else place, *counts)
    stages = repeated(runner.once)
    rate = (counts[1] - 1) / stages["decode"]
    figures = {"load_s": runner.load, "prefill_s": stages["prefix"], "decode_rate": rate}
    print(json.dumps({**figures, "memory_mb": highest_mb() - bare}))


if __name__ == "__main__":
    main(*sys.argv[1:])
