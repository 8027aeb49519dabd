"""Decoders that keep keys and values in 8 bits, by single steps and by runs that attend in float32, against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from tiny_mellow import DECODER, FRONTEND, QUESTION, RATE, noise, request
from torch import Tensor

import alm
from alm.engines.onnx_decoder import CHUNK, OnnxDecoder
from alm.errors import EngineError, SessionError
from alm.package.safetensors import write_tensors
from alm.package.sections import DecoderShape
from alm_export import mellow
from alm_export.graphs.decoder import build_decoder
from alm_export.graphs.int8_cache import LONG
from alm_export.pipeline import Exported, export
from alm_quantize.cache_scales import CacheScales, cache_scales
from alm_quantize.probes import bundled_probes
from alm_train.checkpoints.weights import load_weights
from alm_train.models.kv_cache import LayerCache
from alm_train.models.smollm2 import SmolLM2

pytestmark = pytest.mark.usefixtures("one_thread")
POSITIONS, LENGTH = 256, 200
WAYS = [[100], [1] * 34, [40, 1, 1, 8], [31, 32, 5], [70, 64], [16, 64, 16]]
"""Runs of fewer than 32 positions attend in 8 bits, longer ones in float32."""


@pytest.fixture(scope="module")
def model(tiny_weights: Path) -> SmolLM2:
    return load_weights(str(tiny_weights)).model.caption_decoder.lm


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return np.random.default_rng(2).normal(0, 0.5, (LENGTH, DECODER.width)).astype(np.float32)


class RoundedCache(LayerCache):
    """Keeps what is left of keys and values in 8 bits, and shows a long run its own as they were."""

    def __init__(self, scales: tuple[np.ndarray, np.ndarray]) -> None:
        super().__init__()
        self.scales = [torch.from_numpy(scale[:, np.newaxis]) for scale in scales]

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append rounded keys and values; what attention sees."""
        length = keys.shape[2]
        parts = zip((keys, values), self.scales, strict=True)
        rounded = [(part / scale).round().clamp(-128, 127) * scale for part, scale in parts]
        seen = super().extend(*rounded)
        if length < LONG:
            return seen
        before = [part[:, :, :-length] for part in seen]
        return torch.cat((before[0], keys), 2), torch.cat((before[1], values), 2)


def rounded_cache(scales: CacheScales) -> list[LayerCache]:
    return [RoundedCache(pair) for pair in zip(scales.keys, scales.values, strict=True)]


def codes(cache: list[LayerCache], scales: CacheScales) -> np.ndarray:
    """(2 * layers, kv_heads, T, head_dim), keys before values, as a state has them."""
    kept = np.stack([part[0].numpy() for layer in cache for part in (layer.keys, layer.values)])
    steps = np.stack([scales.keys, scales.values], 1)
    return kept / steps.reshape(-1, *steps.shape[2:])[:, :, np.newaxis]


@pytest.fixture(scope="module")
def scales(model: SmolLM2, rows: np.ndarray) -> CacheScales:
    return cache_scales(model, [torch.from_numpy(rows)[None]])


def built(model: SmolLM2, scales: CacheScales | None, folder: Path) -> OnnxDecoder:
    """The decoder with float32 weights, without a package around it."""
    graph = build_decoder(model, POSITIONS, "fp32", "fp32", scales)
    with (folder / "weights").open("wb") as file:
        slots = write_tensors(file, graph.tensors)
    places = {name: ("weights", slot.offset, slot.size) for name, slot in slots.items()}
    (folder / "decoder.onnx").write_bytes(graph.build(places))
    session = ort.InferenceSession(folder / "decoder.onnx", providers=["CPUExecutionProvider"])
    sizes = DECODER.width, DECODER.vocabulary, DECODER.layers, DECODER.kv_heads, DECODER.head_dim, POSITIONS
    return OnnxDecoder(None, session, DecoderShape(*sizes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def decoder(model: SmolLM2, scales: CacheScales, tmp_path_factory: pytest.TempPathFactory) -> OnnxDecoder:
    return built(model, scales, tmp_path_factory.mktemp("int8"))


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("narrower", [1, 30], ids=["all held", "some cut off"])
def test_steps_and_runs_compute_what_torch_does_over_rounded_caches(
    model: SmolLM2, rows: np.ndarray, scales: CacheScales, tmp_path: Path, way: list[int], narrower: int
) -> None:
    scales = CacheScales(scales.keys / narrower, scales.values / narrower)
    cache, reference = built(model, scales, tmp_path).new_cache(), rounded_cache(scales)
    end = 0
    for size in way:
        part = rows[end : end + size]
        found = cache.append(part)
        with torch.inference_mode():
            expected = model(torch.from_numpy(part)[None], reference)[0, -1].numpy()
        end += size
        assert np.abs(found - expected).max() < 0.05 * expected.std()
    state = cache.state()
    assert state.dtype == np.int8
    assert ((np.abs(state.astype(int)) >= 127).mean() > 0.05) == (narrower > 1)
    distance = np.abs(state - codes(reference, scales))
    assert distance.max() < 1.1
    assert (distance > 0.5).mean() < 0.01


def test_the_rows_of_a_draft_are_those_of_single_steps(decoder: OnnxDecoder, rows: np.ndarray) -> None:
    cache = decoder.new_cache()
    cache.append(rows[:100])
    other = cache.fork()
    together = cache.append_all(rows[100:116])
    alone = np.stack([other.append(rows[place : place + 1]) for place in range(100, 116)])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(cache.state()[:2], other.state()[:2])


def test_a_cache_is_forked_rewound_and_made_again(
    decoder: OnnxDecoder, rows: np.ndarray, tmp_path: Path, model: SmolLM2
) -> None:
    cache = decoder.new_cache()
    cache.append(rows[:90])
    expected = cache.fork().append(rows[90:95])
    fork, state = cache.fork(), cache.state()
    fork.append(-rows[90:140])
    fork.rewind(90)
    np.testing.assert_array_equal(fork.state(), state)
    for again in (fork, decoder.cache_from(state), cache):
        np.testing.assert_array_equal(again.append(rows[90:95]), expected)
    exact = built(model, None, tmp_path)
    assert exact.new_cache().state().dtype == np.float32
    for refusing, kind in ((decoder, np.float32), (exact, np.int8)):
        with pytest.raises(EngineError, match=f"found keys and values of type {np.dtype(kind)}"):
            refusing.cache_from(state.astype(kind))


@pytest.mark.parametrize("size", [CHUNK - 1, CHUNK, CHUNK + 1, LENGTH])
def test_a_run_in_several_chunks_is_one_run(model: SmolLM2, rows: np.ndarray, tmp_path: Path, size: int) -> None:
    with torch.inference_mode():
        expected = model(torch.from_numpy(rows[:size])[None])[0].numpy()
    cache = built(model, None, tmp_path).new_cache()
    np.testing.assert_allclose(cache.append_all(rows[:size]), expected, rtol=0, atol=1e-3)
    cache.rewind(0)
    np.testing.assert_allclose(cache.append(rows[:size]), expected[-1], rtol=0, atol=1e-3)
    assert cache.length == size


def test_only_quantized_packages_for_x86_keep_8_bits_and_sessions_know_it(
    tiny_export: Callable[[str], Exported], tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mellow, "bundled_probes", lambda rate, samples: bundled_probes(rate, samples)[:3])
    genai, arm = tmp_path / "genai.alm", tmp_path / "arm.alm"
    export(replace(request(tiny_weights, genai, "int4"), options={"genai": True}))
    export(request(tiny_weights, arm, "int4", target="arm64"))
    small, exact = tiny_export("int4").path, tiny_export("fp32").path
    for path, kind in ((small, np.int8), (exact, np.float32), (genai, np.float32), (arm, np.float32)):
        with alm.load(path, threads=1) as package:
            clip = package.listen((noise(FRONTEND.samples)[0], RATE))
            kept = clip._open()[0].kept
            assert kept is not None and kept.state().dtype == kind
            said = clip.ask(QUESTION, max_tokens=8)
            clip.save(tmp_path / "clip.alms")
            restored = alm.restore(tmp_path / "clip.alms", package)
            assert restored.ask(QUESTION, max_tokens=8).tokens == said.tokens
            assert clip.ask(QUESTION, max_tokens=8, draft=said.text).tokens == said.tokens
            assert "".join(piece.text for piece in clip.stream(QUESTION, max_tokens=8)) == said.text
    with alm.load(small) as package, pytest.raises(SessionError, match="was made with the package"):
        alm.restore(tmp_path / "clip.alms", package)
