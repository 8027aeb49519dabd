"""A package that is a model folder for onnxruntime-genai when it is unzipped."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from tiny_mellow import DECODER, request

import alm
from alm_export import mellow
from alm_export.pipeline import export
from alm_quantize.probes import bundled_probes

pytestmark = pytest.mark.usefixtures("one_thread")
IDS = [45, 300, 7, 12, 90]
STEPS = 12


@pytest.fixture(scope="module")
def package(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("genai") / "p.alm"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mellow, "bundled_probes", lambda rate, samples: bundled_probes(rate, samples)[:3])
        export(replace(request(tiny_weights, path, "int4"), options={"genai": True}))
    return path


@pytest.fixture
def folder(package: Path, tmp_path: Path) -> Path:
    with zipfile.ZipFile(package) as file:
        file.extractall(tmp_path)
    return tmp_path


def greedy(package: Path) -> list[int]:
    with alm.load(package) as model:
        decoder = model.reader.decoder
        cache, tokens, ids = decoder.new_cache(), [], np.array(IDS)
        for _ in range(STEPS):
            tokens.append(int(cache.append(decoder.embed(ids)).argmax()))
            ids = np.array(tokens[-1:])
    return tokens


def test_its_graph_reads_ids_as_the_sdk_reads_embeddings(package: Path, folder: Path) -> None:
    config = json.loads((folder / "genai_config.json").read_text())["model"]["decoder"]
    session = onnxruntime.InferenceSession(folder / config["filename"], providers=["CPUExecutionProvider"])
    shapes = {value.name: value.shape for value in session.get_inputs() if value.name.startswith("past_")}
    assert len(shapes) == 2 * config["num_hidden_layers"]
    caches = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    tokens, ids, length = [], IDS, 0
    for _ in range(STEPS):
        length += len(ids)
        inputs = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, length), np.int64), **caches}
        names = [value.name for value in session.get_outputs()]
        found = dict(zip(names, session.run(names, inputs), strict=True))
        assert found["logits"].shape == (1, 1, DECODER.vocabulary)
        caches = {name: found[name.replace("past", "present")] for name in caches}
        tokens.append(int(found["logits"].argmax()))
        ids = tokens[-1:]
    assert tokens == greedy(package)


def test_genai_itself_gives_the_same_tokens(package: Path, folder: Path) -> None:
    genai = pytest.importorskip("onnxruntime_genai", reason="not part of the project's environment")
    model = genai.Model(str(folder))
    parameters = genai.GeneratorParams(model)
    parameters.set_search_options(max_length=256, do_sample=False)
    generator = genai.Generator(model, parameters)
    generator.append_tokens(np.array([IDS], np.int32))
    tokens = []
    while len(tokens) < STEPS and not generator.is_done():
        generator.generate_next_token()
        tokens.append(int(generator.get_next_tokens()[0]))
    assert tokens == greedy(package)[: len(tokens)]


def test_it_adds_no_weights(package: Path, folder: Path) -> None:
    with zipfile.ZipFile(package) as file:
        sizes = {entry.filename: entry.file_size for entry in file.infolist()}
    added = {"genai_decoder.onnx", "genai_config.json", "tokenizer_config.json"}
    assert added <= sizes.keys()
    assert sum(sizes[name] for name in added) < 30_000
