"""The SDK's decoder alone, in the loop that engines' own runners run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from alm_bench.rivals.own_runners import Runner, prefix_rows

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
