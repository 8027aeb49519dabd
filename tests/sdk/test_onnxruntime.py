"""The runtime on its real engine: a tiny exported Mellow against PyTorch, from many threads, without a network."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_mellow import RATE, noise, write_tiny

import alm
from alm.models.mellow import Mellow
from alm.package import GOLDEN, write_package
from alm.verify import verify_model
from alm_export.components import build_components
from alm_export.mellow import FLOAT_TOLERANCES, describe_mellow, golden_from_torch
from alm_quantize.gate import PARTS
from alm_quantize.probes import Probe
from alm_train.checkpoints.weights import Weights, load_weights
from alm_train.models.mellow import Mellow as TorchMellow

QUESTIONS = ["what is the sound?", "is there a dog?", "bell or rain?"]
TOKENS = 10


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return load_weights(str(write_tiny(tmp_path_factory.mktemp("weights"))))


@pytest.fixture(scope="module")
def package(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    components = build_components(weights, dict.fromkeys(PARTS, "fp32"), "onnxruntime", folder)
    manifest = describe_mellow(weights, "x86_64", "fp32", components, FLOAT_TOLERANCES)
    entries = {"tokenizer.json": weights.tokenizer.encode(), GOLDEN: b"", **components.entries}
    write_package(folder / "draft.alm", manifest, entries)
    probe = Probe("noise", noise(RATE)[0], QUESTIONS[0], None)
    with alm.load(folder / "draft.alm") as model:
        golden = golden_from_torch(weights.model, probe, model.reader.tokenizer.prompt(probe.question))
    write_package(folder / "tiny.alm", manifest, {**entries, GOLDEN: golden.to_bytes()})
    return folder / "tiny.alm"


@pytest.fixture
def model(package: Path) -> Mellow:
    return alm.load(package, threads=2)


def prefix_in_torch(
    reference: TorchMellow, model: Mellow, sounds: tuple[np.ndarray, np.ndarray], question: str
) -> torch.Tensor:
    ids = torch.from_numpy(model.reader.tokenizer.prompt(question))[None]
    first, second = (reference.audio_tokens(torch.from_numpy(sound)) for sound in sounds)
    return reference.prefix(first, second, ids)


@torch.inference_mode()
def tokens_in_torch(
    reference: TorchMellow, model: Mellow, sounds: tuple[np.ndarray, np.ndarray], question: str
) -> list[int]:
    tokens = reference.generate(prefix_in_torch(reference, model, sounds, question), TOKENS)
    stop = model.info.generation.stop_id
    return tokens[: tokens.index(stop)] if stop in tokens else tokens


@pytest.mark.parametrize("question", QUESTIONS)
def test_answers_are_those_of_pytorch(weights: Weights, model: Mellow, question: str) -> None:
    a, b = noise(RATE, 1), noise(RATE, 2)
    alone = model.listen((a[0], RATE)).ask(question, max_tokens=TOKENS)
    assert list(alone.tokens) == tokens_in_torch(weights.model, model, (a, a), question)
    pair = model.compare((a[0], RATE), (b[0], RATE), question, max_tokens=TOKENS)
    assert list(pair.tokens) == tokens_in_torch(weights.model, model, (a, b), question)


@torch.inference_mode()
def test_choices_are_scored_as_in_pytorch(weights: Weights, model: Mellow) -> None:
    sounds, options = (noise(RATE, 3), noise(RATE, 4)), ["rain", "a dog", "a bell"]
    scored = [f"{letter}) {option}" for letter, option in zip("abc", options, strict=True)]
    prefix = prefix_in_torch(weights.model, model, sounds, f"which? {' '.join(scored)}")
    decoder = weights.model.caption_decoder.lm
    totals = []
    for text in scored:
        ids = torch.tensor(model.reader.tokenizer.ids(text))
        rows = torch.cat([prefix, decoder.model.embed_tokens(ids)[None]], dim=1)
        steps = decoder(rows)[0, prefix.shape[1] - 1 : -1].log_softmax(-1)
        totals.append(float(steps.gather(1, ids[:, None]).sum()))
    expected = torch.tensor(totals, dtype=torch.float64).log_softmax(0).tolist()
    first, second = ((sound[0], RATE) for sound in sounds)
    pair = model.listen(first, second).choose("which?", options)
    assert np.log(pair.probabilities) == pytest.approx(expected, abs=5e-3)
    # Had the second recording not been heard, this would agree too.
    alone = model.listen(first).choose("which?", options)
    assert np.log(alone.probabilities) != pytest.approx(expected, abs=5e-3)


def test_threads_share_a_session(model: Mellow) -> None:
    clip = model.listen((noise(RATE, 4)[0], RATE))
    work = QUESTIONS * 8
    alone = [clip.ask(question, max_tokens=TOKENS).tokens for question in work]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda question: clip.ask(question, max_tokens=TOKENS).tokens, work))
        chosen = list(pool.map(lambda _: clip.choose("dog?", ["yes", "no"]), range(12)))
    assert together == alone
    assert len(set(chosen)) == 1


def test_self_test_passes(model: Mellow) -> None:
    verify_model(model).check()


def test_no_network_and_nothing_heavy(package: Path) -> None:
    """A whole question in a process that may not open a socket; torch is installed here and must stay out."""
    program = f"""
import sys, json, socket
def refuse(*arguments, **options):
    raise OSError("sockets are refused")
socket.socket.connect = socket.socket.bind = socket.create_connection = socket.getaddrinfo = refuse
import numpy as np
import alm
with alm.load({str(package)!r}, threads=1) as model:
    sound = np.random.default_rng(0).uniform(-1, 1, {RATE}).astype(np.float32)
    answer = model.listen((sound, {RATE})).ask("what is the sound?", max_tokens=4)
print(json.dumps([len(answer.tokens), sorted({{name.split(".")[0] for name in sys.modules}})]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    count, modules = json.loads(done.stdout)
    assert count >= 1
    assert not {"torch", "transformers", "onnx", "typer", "rich", "alm_train"} & set(modules)
