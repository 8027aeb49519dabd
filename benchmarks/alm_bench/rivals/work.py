"""What one step and one prefix cost a rival by count: bytes that are read and products that are made of the weights.

Mellow's decoder has the shape of SmolLM2-135M whoever runs it; only the precision, and whether keys and values are
kept, differ.
"""

from __future__ import annotations

from pathlib import Path

from alm_bench.results.records import Work
from alm_bench.rivals.own_runners import PREFIX

TOKENS = 24
"""Length of the measured answer, which decides how many positions a step without a cache computes."""


def float32(path: Path, *, cached: bool = True) -> Work:
    """Weights as they are."""
    body, head = _weights()
    return _work(4 * (body + head), cached=cached)


def no_cache(path: Path) -> Work:
    """Float32 weights, and every step computes all positions and the logits of each."""
    return float32(path, cached=False)


def gguf(path: Path) -> Work:
    """llama.cpp reads its file, in which head and embedding are one, and keeps keys and values in 16 bits."""
    return _work(path.stat().st_size, cache_bytes=2)


def genai(folder: Path) -> Work:
    """The builder's data, in which head and embedding are one."""
    return _work((folder / "model.onnx.data").stat().st_size)


def executorch(folder: Path) -> Work:
    """8da4w with a 16-bit scale for 32 weights, and a head of 8 bits: the file holds an encoder besides."""
    body, head = _weights()
    return _work(body * (4 + 16 / 32) / 8 + head)


def _work(weight_bytes: float, *, cached: bool = True, cache_bytes: int = 4) -> Work:
    shape, (body, head) = _shape(), _weights()
    if not cached:
        positions = PREFIX + TOKENS / 2
        return Work(weight_bytes, None, 2 * (body + head) * positions, 2.0 * (body + head) * PREFIX)
    cache = 2 * cache_bytes * shape.layers * shape.kv_heads * shape.head_dim * PREFIX
    return Work(weight_bytes + cache, None, 2.0 * (body + head), 2.0 * (body * PREFIX + head))


def _weights() -> tuple[int, int]:
    """Weights of all layers' matrix products, and of the head's."""
    shape = _shape()
    attention = 2 * shape.width * shape.head_dim * (shape.heads + shape.kv_heads)
    return shape.layers * (attention + 3 * shape.width * shape.hidden), shape.vocabulary * shape.width


def _shape():  # type: ignore[no-untyped-def]
    from alm_train.models.smollm2 import SmolLM2Config

    return SmolLM2Config()
