"""The self-test of models with a mapper: from sound to tokens.

audio       (N, samples)         float32, one clip, or the two of a pair
prompt_ids  (prompt_tokens,)     int64, the padded prompt; only where the model takes one
log_mel     (N, frames, mels)    float32, dB
embedding   (N, D)               float32, not normalised
prefix      (tokens, width)      float32
logits      (vocabulary,)        float32, after the whole prefix
tokens      (T,)                 int64, greedy, T at least 1; the stop token does not end them
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from alm.engines.base import Array, Float32
from alm.heard.mapped_prefix import MappedReader
from alm.models.listener import Listener
from alm.package import section
from alm.self_test import ANY, Golden, GoldenArray, SelfTest, only

ENCODER_STAGES = ("log_mel", "embedding")


def captioner_self_test(model: Listener) -> SelfTest:
    """The self-test of a loaded model."""
    manifest = model.info
    mapper, prompt = section(manifest.mapper, "mapper"), manifest.prompt
    room = section(manifest.generation, "generation").max_positions - mapper.tokens
    inputs = {"audio": GoldenArray("f", (only(mapper.clips), only(manifest.frontend.samples)))}
    if prompt is not None:
        inputs["prompt_ids"] = GoldenArray("i", (only(prompt.prompt_tokens),))
    return SelfTest(
        inputs=inputs,
        stages={
            "log_mel": GoldenArray("f", (ANY, ANY, ANY)),
            "embedding": GoldenArray("f", (ANY, ANY)),
            "prefix": GoldenArray("f", (ANY, ANY)),
            "logits": GoldenArray("f", (ANY,)),
            "tokens": GoldenArray("i", (range(1, room + 1),)),
        },
        compute=lambda golden: _compute(model, golden),
    )


def _compute(model: Listener, golden: Golden) -> Iterator[tuple[str, Array]]:
    heard = [model.encode(samples, ENCODER_STAGES) for samples in golden["audio"].astype(np.float32)]
    for stage in ENCODER_STAGES:
        yield stage, np.stack([outputs[stage] for outputs in heard])
    prefix = prefix_of(model, [outputs["embedding"] for outputs in heard], golden.get("prompt_ids"))
    yield "prefix", prefix
    decoder = model.reader.decoder
    cache = decoder.new_cache()
    logits = cache.append(prefix)
    yield "logits", logits
    tokens = [int(np.argmax(logits))]
    while len(tokens) < len(golden["tokens"]):
        tokens.append(int(np.argmax(cache.append(decoder.embed(np.array(tokens[-1:], dtype=np.int64))))))
    yield "tokens", np.array(tokens, dtype=np.int64)


def prefix_of(model: Listener, embeddings: list[Float32], prompt_ids: Array | None) -> Float32:
    """The prefix (tokens, width) of one embedding (D,) or two, and of padded ids where the model takes a prompt."""
    reader = model.reader
    assert isinstance(reader, MappedReader)
    prompt = reader.prompt(None) if prompt_ids is None else reader.decoder.embed(prompt_ids.astype(np.int64))
    return reader.prefix(embeddings[0][np.newaxis], embeddings[-1][np.newaxis], prompt)
