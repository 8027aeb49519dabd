"""Mellow small enough to export in seconds: the real code in every part, random weights, 1 s clips.

The weights are drawn with spreads that let sound and question reach the logits, so that an answer changes
when a stage computes something else.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from golden.synthetic import draw
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from alm.package import Manifest, Package, write_package
from alm.package.safetensors import read_tensors, write_tensors
from alm_export.graphs.graph import GraphBuilder
from alm_export.pipeline import Exported, Report, Request, export
from alm_export.targets import find_target, parse_schemes
from alm_train.checkpoints.weights import write_weights
from alm_train.models.frontend import FrontendConfig
from alm_train.models.htsat import HTSATConfig
from alm_train.models.mellow import Mellow, MellowConfig
from alm_train.models.smollm2 import SmolLM2Config

RATE = 16000
FRONTEND = FrontendConfig(RATE, samples=RATE, n_fft=512, hop=160, mels=16, fmin=50.0, fmax=7000.0)
ENCODER = HTSATConfig(
    FRONTEND, frames=128, fold=2, patch=(4, 4), width=16, depths=(2, 2), heads=(2, 4), window=4, classes=13
)
"""101 frames stretched to 128; windows of the first stage are shifted."""
DECODER = SmolLM2Config(vocabulary=320, width=48, hidden=80, layers=2, heads=3, kv_heads=1, max_positions=256)
"""A width that no block divides, so that every block scheme pads."""
TINY = MellowConfig(ENCODER, DECODER, repeat=2, prompt_tokens=64, pad_id=1)
PRECISION = "int8", "int4", "fp32"
QUESTION = "what is the sound?"


def tiny_tokenizer() -> Tokenizer:
    """A byte-level BPE as the published ones, trained on a sentence; `!` is a plain token with id 1."""
    made = Tokenizer(BPE())
    made.pre_tokenizer = ByteLevel(add_prefix_space=False)
    made.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=DECODER.vocabulary,
        show_progress=False,
        special_tokens=[AddedToken("<|endoftext|>", special=True)],
        initial_alphabet=ByteLevel.alphabet(),
    )
    made.train_from_iterator(["what is the sound? is there a dog barking? a) rain b) siren c) crow d) bell"], trainer)
    return made


def tiny_model(config: MellowConfig = TINY, seed: int = 0) -> Mellow:
    """A model in evaluation mode whose weights depend on `seed` and their names alone."""
    model = Mellow(config)
    state = model.state_dict()
    for key, tensor in state.items():
        if tensor.is_floating_point() and "melW" not in key:
            state[key] = torch.from_numpy(draw(key, tuple(tensor.shape), seed))
    # What recordings have: -40 dB give or take 20.
    norm = "audio_encoder.base.htsat.bn0."
    state[f"{norm}running_mean"].sub_(40)
    state[f"{norm}running_var"].mul_(400)
    state["caption_decoder.lm.model.embed_tokens.weight"].mul_(10)
    model.load_state_dict(state)
    return model.eval()


def write_tiny(folder: Path, model: Mellow | None = None) -> Path:
    """A weights folder for `--weights`."""
    write_weights(folder, model or tiny_model(), tiny_tokenizer().to_str(), "CC0-1.0", "random numbers")
    return folder


def request(
    weights: Path,
    output: Path,
    scheme: str = "fp32",
    budget: float = 1.0,
    target: str = "x86_64",
    engine: str = "onnxruntime",
) -> Request:
    """An export of `weights`; `scheme` is a precision or what `--scheme` takes."""
    device = find_target(target)
    ladders = {
        name: device.ladders(scheme, name) if scheme in PRECISION else parse_schemes(scheme, engine=name)
        for name in engine.split(",")
    }
    return Request(device, scheme if scheme in PRECISION else "custom", ladders, str(weights), output, budget)


def export_tiny(weights: Path, output: Path, scheme: str = "fp32", report: Report | None = None) -> Exported:
    """Export without a quality limit."""
    return export(request(weights, output, scheme), report or (lambda stage, done, total: None))


def run_graph(graph: GraphBuilder, folder: Path, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Run a graph by file name, as any program would that unzipped a package."""
    entry = f"{graph.name}.safetensors"
    with (folder / entry).open("wb") as file:
        slots = write_tensors(file, graph.tensors)
    path = folder / f"{graph.name}.onnx"
    path.write_bytes(graph.build({name: (entry, slot.offset, slot.size) for name, slot in slots.items()}))
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    return dict(zip(outputs, session.run(outputs, inputs), strict=True))


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """(1, samples): tones that differ with `seed`, over quiet noise."""
    random = np.random.default_rng(seed)
    time = np.arange(samples) / RATE
    tones = sum(0.2 * np.sin(2 * np.pi * hz * time) for hz in random.uniform(100, 6000, 3))
    return (tones + 0.02 * random.standard_normal(samples)).astype(np.float32)[None]


def entries_of(path: Path) -> tuple[Manifest, dict[str, bytes]]:
    """Manifest and entries of a package, to write an altered one."""
    with Package.open(path) as package:
        return package.manifest, {name: package.read(name) for name in package.manifest.entries}


def write_altered(source: Path, path: Path, changed: Mapping[str, bytes]) -> Path:
    """A valid package (hashes and all) that differs from `source` in the bytes of some entries."""
    manifest, entries = entries_of(source)
    write_package(path, manifest, {**entries, **changed})
    return path


def altered_tensors(data: bytes, name: str, factor: float) -> bytes:
    """A safetensors entry with one tensor multiplied by `factor`."""
    tensors = dict(read_tensors(data))
    file = io.BytesIO()
    tensors[name] = (tensors[name] * factor).astype(tensors[name].dtype)
    write_tensors(file, tensors)
    return file.getvalue()


@contextmanager
def single_thread() -> Iterator[None]:
    """Threads that wait for each other cost a model this small more than they bring: 100 times on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "sched_getaffinity", lambda process: {0})
            yield
    finally:
        torch.set_num_threads(threads)
