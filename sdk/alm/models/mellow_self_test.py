"""The self-test of Mellow: from sound to tokens.

audio         (N, samples)              float32, one clip (both slots) or two
prompt_ids    (prompt_tokens,)          int64, the padded question
log_mel       (N, frames, mels)         float32, dB
latent        (N, D)                    float32, the clip vector
audio_tokens  (N, audio_tokens, width)  float32
logits        (vocabulary,)             float32, after the whole prefix
tokens        (T,)                      int64, greedy, T at least 1; the stop token does not end them
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from alm.engines.base import Array, Float32, KVCache
from alm.package import section
from alm.self_test import ANY, Golden, GoldenArray, SelfTest, only

if TYPE_CHECKING:
    from alm.models.mellow import Mellow

ENCODER_STAGES = ("log_mel", "latent", "audio_tokens")
STAGES = (*ENCODER_STAGES, "logits", "tokens")


def mellow_self_test(model: Mellow) -> SelfTest:
    """The self-test of a loaded Mellow."""
    manifest = model.info
    prompt, generation = section(manifest.prompt, "prompt"), section(manifest.generation, "generation")
    return SelfTest(
        inputs={
            "audio": GoldenArray("f", (range(1, 3), only(manifest.frontend.samples))),
            "prompt_ids": GoldenArray("i", (only(prompt.prompt_tokens),)),
        },
        stages={
            "log_mel": GoldenArray("f", (ANY, ANY, ANY)),
            "latent": GoldenArray("f", (ANY, ANY)),
            "audio_tokens": GoldenArray("f", (ANY, ANY, ANY)),
            "logits": GoldenArray("f", (ANY,)),
            "tokens": GoldenArray("i", (range(1, generation.max_positions - prompt.prefix_tokens + 1),)),
        },
        compute=lambda golden: _compute(model, golden),
    )


def _compute(model: Mellow, golden: Golden) -> Iterator[tuple[str, Array]]:
    heard = [model.encode(samples, ENCODER_STAGES) for samples in golden["audio"].astype(np.float32)]
    for stage in ENCODER_STAGES:
        yield stage, np.stack([outputs[stage] for outputs in heard])
    tokens = [outputs["audio_tokens"] for outputs in heard]
    reader = model.reader
    cache = reader.run_prefix((tokens[0], tokens[-1]))
    logits = cache.append(reader.decoder.embed(golden["prompt_ids"].astype(np.int64)))
    yield "logits", logits
    yield "tokens", _greedy_tokens(model, cache, logits, len(golden["tokens"]))


def _greedy_tokens(model: Mellow, cache: KVCache, logits: Float32, count: int) -> Array:
    tokens = [int(np.argmax(logits))]
    while len(tokens) < count:
        last = model.reader.decoder.embed(np.array(tokens[-1:], dtype=np.int64))
        tokens.append(int(np.argmax(cache.append(last))))
    return np.array(tokens, dtype=np.int64)
