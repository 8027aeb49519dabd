"""A valid package small enough to attack: real structure, random bytes where a model would be."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from alm.package import (
    Component,
    DecoderShape,
    Frontend,
    GenerationDefaults,
    GoldenInfo,
    Manifest,
    ModelInfo,
    PromptLayout,
    WeightsInfo,
    write_package,
)
from alm.package.safetensors import write_tensors


def tiny_manifest() -> Manifest:
    return Manifest(
        model=ModelInfo(family="mellow", name="mellow-tiny", parameters=1234),
        weights=WeightsInfo(source="random", sha256="0" * 64, licence="CC0-1.0", attribution="nobody – Zoë"),
        target="x86_64",
        scheme="fp32",
        frontend=Frontend(sample_rate=32000, samples=320000, n_fft=1024, hop=320, mels=64, fmin=50.0, fmax=14000.0),
        prompt=PromptLayout(audio_tokens=3, separator_id=0, prompt_tokens=5, pad_id=17, lowercase=True),
        generation=GenerationDefaults(stop_id=0, max_tokens=8, max_positions=64),
        decoder=DecoderShape(width=8, vocabulary=64, layers=2, kv_heads=1, head_dim=4, max_positions=64),
        components={
            "decoder": Component("onnxruntime", "decoder.onnx", ("decoder.safetensors",), "fp32"),
            "audio_encoder": Component("onnxruntime", "audio_encoder.onnx", (), "fp32"),
        },
        capabilities=("ask", "compare"),
        golden=GoldenInfo(tolerances={"log_mel": 0.1, "logits": 1e-3}),
        quality={"accuracy": {"choice": 0.9, "clips": 100}},
        provenance={"created": "2026-01-01T00:00:00Z", "tools": {"torch": "2.13.0"}},
    )


def tiny_tensors() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "matrix": random.standard_normal((8, 16)).astype(np.float32),
        "odd": random.integers(0, 255, (3, 5)).astype(np.uint8),
        "half": random.standard_normal((32,)).astype(np.float16),
        "scalar": np.array(3, dtype=np.int64),
        "empty": np.zeros((0, 4), dtype=np.float32),
    }


def tiny_entries() -> dict[str, bytes | Path]:
    weights = io.BytesIO()
    write_tensors(weights, tiny_tensors())
    golden = io.BytesIO()
    np.savez(golden, audio=np.zeros((1, 16), np.float32))
    return {
        "tokenizer.json": b'{"model": {}}',
        "audio_encoder.onnx": bytes(range(256)),
        "decoder.onnx": b"graph" * 20,
        "decoder.safetensors": weights.getvalue(),
        "golden.npz": golden.getvalue(),
        "README.md": b"# mellow-tiny\n",
    }


def write_tiny(path: Path) -> Manifest:
    return write_package(path, tiny_manifest(), tiny_entries())
