"""A whole package for a model of a few hundred weights, and an engine in numpy that runs it.

The decoder is real: causal attention over a KV cache, so what is forked, rewound or shared wrongly changes
the answer. Its random weights babble; a test that needs a certain answer sets `decoder.script`.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from alm.audio.log_mel import mel_filter_bank
from alm.errors import EngineError
from alm.package import (
    Component,
    DecoderShape,
    Frontend,
    GenerationDefaults,
    GoldenInfo,
    Manifest,
    ModelInfo,
    Package,
    PromptLayout,
    WeightsInfo,
    write_package,
)
from alm.package.safetensors import write_tensors

RATE, SAMPLES = 8000, 800
MELS, FRAMES, LATENT, WIDTH, AUDIO_TOKENS, PROMPT_TOKENS, ROOM = 4, 10, 5, 16, 3, 48, 60
STOP = 0
FRONTEND = Frontend(sample_rate=RATE, samples=SAMPLES, n_fft=64, hop=80, mels=MELS, fmin=50.0, fmax=4000.0)
PREFIX = 2 * (AUDIO_TOKENS + 1)
TOLERANCES = {"log_mel": 1e-4, "latent": 1e-4, "audio_tokens": 1e-4, "logits": 1e-4}


def tokenizer() -> Tokenizer:
    """One token per byte, as in the first 256 entries of a byte-level BPE; id 0 ends an answer."""
    letters = sorted(ByteLevel.alphabet())
    vocabulary = {"<|endoftext|>": STOP} | {letter: number for number, letter in enumerate(letters, start=1)}
    made = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = ByteLevel(add_prefix_space=False)
    made.decoder = ByteLevelDecoder()
    made.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    return made


def _byte_of(letter: str) -> int:
    # GPT-2's table: printable Latin-1 stands for itself, the rest is moved up from 256 on, in order.
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = [byte for byte in range(256) if byte not in plain]
    return ord(letter) if ord(letter) < 256 else moved[ord(letter) - 256]


ID_OF_BYTE = {_byte_of(letter): number for number, letter in enumerate(sorted(ByteLevel.alphabet()), start=1)}


def ids_of(text: str | bytes) -> list[int]:
    """One id per byte, also for bytes that are not UTF-8."""
    return [ID_OF_BYTE[byte] for byte in (text.encode() if isinstance(text, str) else text)]


PAD = ids_of("!")[0]
VOCABULARY = 257


def manifest(**changes: object) -> Manifest:
    fields: dict[str, object] = {
        "model": ModelInfo(family="mellow", name="mellow-fake", parameters=1234),
        "weights": WeightsInfo(source="random", sha256="0" * 64, licence="CC0-1.0", attribution="nobody"),
        "target": "x86_64",
        "scheme": "fp32",
        "frontend": FRONTEND,
        "prompt": PromptLayout(
            audio_tokens=AUDIO_TOKENS,
            separator_id=STOP,
            prompt_tokens=PROMPT_TOKENS,
            pad_id=PAD,
            lowercase=True,
        ),
        "generation": GenerationDefaults(stop_id=STOP, max_tokens=20, max_positions=PREFIX + PROMPT_TOKENS + ROOM),
        "decoder": DecoderShape(
            width=WIDTH, vocabulary=VOCABULARY, layers=1, kv_heads=1, head_dim=WIDTH, max_positions=512
        ),
        "components": {
            name: Component("fake", f"{name}.fake", ("weights.safetensors",), "fp32")
            for name in ("audio_encoder", "token_embedding", "decoder")
        },
        "capabilities": ("ask", "compare", "choose"),
        "golden": GoldenInfo(tolerances=TOLERANCES),
        "quality": {"choice": {"accuracy": 0.9, "clips": 100}},
        "provenance": {"created": "2026-01-01T00:00:00Z"},
    }
    return Manifest(**{**fields, **changes})  # type: ignore[arg-type]


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    shapes = {
        "mel": (SAMPLES, FRAMES * MELS),
        "latent": (FRAMES * MELS, LATENT),
        "tokens": (FRAMES * MELS, AUDIO_TOKENS * WIDTH),
        "embedding": (VOCABULARY, WIDTH),
        "query": (WIDTH, WIDTH),
        "key": (WIDTH, WIDTH),
        "value": (WIDTH, WIDTH),
        "head": (WIDTH, VOCABULARY),
    }
    drawn = {
        name: (random.standard_normal(shape) / np.sqrt(shape[0]) * 3).astype(np.float32)
        for name, shape in shapes.items()
    }
    return {**drawn, "mel_filter_bank": stored_bank(mel_filter_bank(FRONTEND))}


def stored_bank(bank: np.ndarray) -> np.ndarray:
    """The filter bank in the order in which an exported encoder keeps its rows (see `alm.audio.log_mel`)."""
    first = 1 << (FRONTEND.n_fft.bit_length() // 2)
    rows = -(-len(bank) // first)
    padded = np.zeros((rows * first, MELS), np.float32)
    padded[: len(bank)] = bank
    return padded.reshape(rows, first, MELS).transpose(1, 0, 2).reshape(-1, MELS)


class FakeGraph:
    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        self.tensors = tensors
        self.runs = 0

    def run(self, outputs: Sequence[str], **inputs: np.ndarray) -> dict[str, np.ndarray]:
        self.runs += 1
        assert set(inputs) == {"waveform"}
        assert inputs["waveform"].shape == (1, SAMPLES)
        assert inputs["waveform"].dtype == np.float32
        mel = np.tanh(inputs["waveform"][0] @ self.tensors["mel"])
        found = {
            "log_mel": mel.reshape(1, FRAMES, MELS),
            "latent": (mel @ self.tensors["latent"])[np.newaxis],
            "audio_tokens": (mel @ self.tensors["tokens"]).reshape(1, AUDIO_TOKENS, WIDTH),
        }
        return {name: found[name] for name in outputs}


class FakeDecoder:
    def __init__(self, tensors: dict[str, np.ndarray], capacity: int) -> None:
        self.tensors = tensors
        self.capacity = capacity
        self.script: list[int] | None = None
        self.appended: list[int] = []
        self.gate: threading.Event | None = None
        self.busy = threading.Event()

    def embed(self, ids: np.ndarray) -> np.ndarray:
        assert ids.dtype == np.int64
        return self.tensors["embedding"][ids]

    def new_cache(self) -> FakeCache:
        return FakeCache(self, np.empty((0, WIDTH), np.float32), np.empty((0, WIDTH), np.float32))

    def cache_from(self, state: np.ndarray) -> FakeCache:
        fits = state.ndim == 3 and state.shape[::2] == (2, WIDTH) and 1 <= state.shape[1] <= self.capacity
        if state.dtype != np.float32 or not fits:
            raise EngineError(f"found a state of type {state.dtype} and shape {state.shape}")
        if not np.isfinite(state).all():
            raise EngineError("the state is not finite")
        return FakeCache(self, *state.copy())


class FakeCache:
    def __init__(self, decoder: FakeDecoder, keys: np.ndarray, values: np.ndarray) -> None:
        self.decoder, self.keys, self.values = decoder, keys, values

    @property
    def length(self) -> int:
        return len(self.keys)

    @property
    def capacity(self) -> int:
        return self.decoder.capacity

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes

    def append(self, embeddings: np.ndarray) -> np.ndarray:
        return self._run(embeddings, [len(embeddings) - 1])[0]

    def append_all(self, embeddings: np.ndarray) -> np.ndarray:
        return self._run(embeddings, range(len(embeddings)))

    def _run(self, embeddings: np.ndarray, wanted: Sequence[int]) -> np.ndarray:
        decoder, start = self.decoder, self.length
        decoder.appended.append(len(embeddings))
        if decoder.gate is not None:
            decoder.busy.set()
            assert decoder.gate.wait(20)
        assert embeddings.ndim == 2
        assert embeddings.dtype == np.float32
        assert start + len(embeddings) <= self.capacity
        places = np.arange(start, start + len(embeddings))[:, np.newaxis]
        rows = embeddings + np.sin(places / np.arange(1, WIDTH + 1)).astype(np.float32)
        self.keys = np.concatenate([self.keys, rows @ decoder.tensors["key"]])
        self.values = np.concatenate([self.values, rows @ decoder.tensors["value"]])
        return np.stack([self._logits(rows[row], start + row + 1) for row in wanted])

    def _logits(self, row: np.ndarray, length: int) -> np.ndarray:
        decoder = self.decoder
        if decoder.script is not None and length >= PREFIX + PROMPT_TOKENS:
            step = length - PREFIX - PROMPT_TOKENS
            wanted = decoder.script[step] if step < len(decoder.script) else STOP
            return np.eye(VOCABULARY, dtype=np.float32)[wanted] * 10
        # Bounded scores: attention that sees one position only would make all questions alike.
        attention = np.exp(2 * np.tanh(self.keys[:length] @ (row @ decoder.tensors["query"]) / 100))
        mixed = row / 8 + attention @ self.values[:length] / attention.sum()
        return (np.tanh(mixed) @ decoder.tensors["head"]).astype(np.float32)

    def rewind(self, length: int) -> None:
        assert 0 <= length <= self.length
        self.keys, self.values = self.keys[:length], self.values[:length]

    def fork(self) -> FakeCache:
        return FakeCache(self.decoder, self.keys.copy(), self.values.copy())

    def state(self) -> np.ndarray:
        return np.stack([self.keys, self.values])


class FakeEngine:
    name = "fake"

    def load_graph(self, package: Package, component: str) -> FakeGraph:
        return FakeGraph(package.tensors("weights.safetensors"))

    def load_decoder(self, package: Package) -> FakeDecoder:
        return FakeDecoder(package.tensors("weights.safetensors"), package.manifest.generation.max_positions)


def engine(threads: int | None) -> FakeEngine:
    return FakeEngine()


def golden(tensors: dict[str, np.ndarray], clips: int = 1) -> dict[str, np.ndarray]:
    """What the fake model computes, put together without the SDK."""
    audio = np.random.default_rng(3).uniform(-0.5, 0.5, (clips, SAMPLES)).astype(np.float32)
    encoder = FakeGraph(tensors)
    heard = [encoder.run(("log_mel", "latent", "audio_tokens"), waveform=clip[np.newaxis]) for clip in audio]
    stages = {name: np.concatenate([each[name] for each in heard]) for name in heard[0]}
    decoder = FakeDecoder(tensors, 512)
    prompt = np.array((ids_of("what is it?") + [PAD] * PROMPT_TOKENS)[:PROMPT_TOKENS], dtype=np.int64)
    separator = decoder.embed(np.array([STOP]))
    tokens = stages["audio_tokens"]
    cache = decoder.new_cache()
    rows = [tokens[0], separator, tokens[-1], separator, decoder.embed(prompt)]
    logits = cache.append(np.concatenate(rows))
    answer = [int(logits.argmax())]
    while len(answer) < 12:
        answer.append(int(cache.append(decoder.embed(np.array(answer[-1:]))).argmax()))
    return {
        "audio": audio,
        "prompt_ids": prompt,
        **stages,
        "logits": logits,
        "tokens": np.array(answer, dtype=np.int64),
    }


def write_fake(
    path: Path,
    *,
    tensors: dict[str, np.ndarray] | None = None,
    arrays: dict[str, np.ndarray] | None = None,
    **changes: object,
) -> Path:
    """Write a package; `arrays` replaces its self-test, `changes` fields of its manifest."""
    tensors = weights() if tensors is None else tensors
    packed, self_test = io.BytesIO(), io.BytesIO()
    write_tensors(packed, tensors)
    np.savez(self_test, **(golden(tensors) if arrays is None else arrays))
    entries: dict[str, bytes | Path] = {
        "tokenizer.json": tokenizer().to_str().encode(),
        "weights.safetensors": packed.getvalue(),
        "golden.npz": self_test.getvalue(),
        **{f"{name}.fake": b"-" for name in ("audio_encoder", "token_embedding", "decoder")},
    }
    write_package(path, manifest(**changes), entries)
    return path


def noise(windows: float, seed: int = 0) -> tuple[np.ndarray, int]:
    """A recording of that many windows."""
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, round(windows * SAMPLES))
    return samples.astype(np.float32), RATE
