"""The `decoder` and `token_embedding` graphs, run by the SDK's engine, against PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from tiny_mellow import DECODER, FRONTEND, QUESTION, RATE, TINY, entries_of, noise, write_altered

import alm
from alm.engines.base import Decoder
from alm.errors import EngineError
from alm_export.pipeline import Exported
from alm_quantize.schemes import SCHEMES
from alm_train.checkpoints.weights import load_weights
from alm_train.models.mellow import Mellow

SCHEMES_BY_NAME = {
    "int8": "audio_encoder=int8,decoder=int8,head=int8-block32",
    "uint8": "audio_encoder=uint8,decoder=uint8,head=int8-block32",
    "int8-block32": "int8-block32",
    "int4-block32": "int4-block32",
    "int4-block64": "int4-block64",
    "int4-block128": "int4-block128",
}
pytestmark = pytest.mark.usefixtures("one_thread")
Export = Callable[[str], Exported]


@pytest.fixture(scope="module")
def model(tiny_weights: Path) -> Mellow:
    return load_weights(str(tiny_weights)).model


@pytest.fixture
def decoder(tiny_package: Path) -> Iterator[Decoder]:
    with alm.load(tiny_package) as loaded:
        yield loaded.reader.decoder


def test_a_graph_of_another_version_is_refused(tmp_path: Path, tiny_package: Path) -> None:
    graph = onnx.load_model_from_string(entries_of(tiny_package)[1]["decoder.onnx"])
    next(value for value in graph.graph.input if value.name == "rows").name = "choices"
    for node in graph.graph.node:
        node.input[:] = ["choices" if name == "rows" else name for name in node.input]
    older = write_altered(tiny_package, tmp_path / "older.alm", {"decoder.onnx": graph.SerializeToString()})
    with pytest.raises(EngineError, match=r"'decoder\.onnx' lacks the input 'rows': .*export the package again"):
        alm.load(older)


@pytest.mark.parametrize("ids", [[-1], [0, DECODER.vocabulary], [5, 2**40]])
def test_ids_outside_the_vocabulary_are_errors(decoder: Decoder, ids: list[int]) -> None:
    with pytest.raises(EngineError, match=f"the vocabulary has {DECODER.vocabulary}"):
        decoder.embed(np.array(ids))


def test_the_embedding_is_torch_s(decoder: Decoder, model: Mellow) -> None:
    ids = np.array([0, 319, 7, 7])
    with torch.inference_mode():
        np.testing.assert_array_equal(decoder.embed(ids), model.embed(torch.from_numpy(ids)).numpy())


def test_the_float_package_says_what_torch_says(tiny_package: Path, model: Mellow) -> None:
    """28 clip/question pairs, one and two clips."""
    questions = ["what is the sound?", "is there a dog?", "what is the sound? a) rain b) siren", "why"]
    answers = set()
    with alm.load(tiny_package) as package, torch.inference_mode():
        for seed in range(7):
            one = noise(FRONTEND.samples, seed)
            two = noise(FRONTEND.samples, seed + 100) if seed % 2 else one
            clip = package.listen((one[0], RATE), (two[0], RATE) if seed % 2 else None)
            heard = [model.audio_tokens(torch.from_numpy(sound)) for sound in (one, two)]
            listened = [package.encode(sound[0])["audio_tokens"] for sound in (one, two)]
            for question in questions:
                ids = package.reader.tokenizer.prompt(question)
                prefix = model.prefix(*heard, torch.from_numpy(ids)[None])
                cache = package.reader.run_prefix((listened[0], listened[1]))
                found = cache.append(package.reader.decoder.embed(ids))
                expected = model.caption_decoder.lm(prefix)[0, -1].numpy()
                np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)
                answer = clip.ask(question, max_tokens=12)
                said = model.generate(prefix, 12)
                assert list(answer.tokens) == [token for token in said if token != TINY.stop_id]
                answers.add(answer.tokens)
    assert len(answers) > 8, "answers that do not depend on sound and question would prove nothing"


@pytest.mark.parametrize("name", SCHEMES_BY_NAME)
def test_every_scheme_stays_close_to_float(tiny_export: Export, model: Mellow, name: str) -> None:
    exported = tiny_export(SCHEMES_BY_NAME[name])
    assert exported.manifest.components["decoder"].scheme == name
    whole = exported.manifest.quality["whole"]
    least = {"int4-block32": 0.6, "int4-block64": 0.5, "int4-block128": 0.5}.get(name, 0.9)
    assert least < whole["agreement"]["share"] <= 1
    assert 0 < whole["divergence_nats"] < (0.01 if SCHEMES[name].bits == 8 else 1)
    assert exported.path.stat().st_size < 700_000
    with alm.load(exported.path) as package:
        answer = package.listen((noise(FRONTEND.samples)[0], RATE)).ask(QUESTION, max_tokens=8)
        assert answer.tokens
    assert exported.made["onnxruntime"].parity.stages[0].ok


@pytest.mark.parametrize(
    ("scheme", "distance"),
    [("int8-block32", 0.02), ("int4-block32", 0.3), ("int4-block64", 0.35), ("int4-block128", 0.35)],
)
def test_the_embedding_is_the_dequantized_head(
    tiny_export: Export, model: Mellow, scheme: str, distance: float
) -> None:
    """Embedding rows and logits come from one matrix: row i times a vector is logit i of that vector."""
    table = model.caption_decoder.lm.model.embed_tokens.weight.detach().numpy()
    manifest, entries = entries_of(tiny_export(scheme).path)
    packed = alm.package.safetensors.read_tensors(entries["token_embedding.safetensors"])
    codes = packed["head.packed"]
    if SCHEMES[scheme].bits == 4:
        codes = np.stack((codes & 15, codes >> 4), -1).reshape(*codes.shape[:2], -1)
    middle = 1 << (SCHEMES[scheme].bits - 1)
    values = (codes.astype(np.float32) - middle) * packed["head.scales"][:, :, None]
    expected = values.reshape(len(table), -1)[:, : table.shape[1]]
    assert manifest.components["decoder"].weights == ("decoder.safetensors", "token_embedding.safetensors")
    with alm.load(tiny_export(scheme).path) as package:
        found = package.reader.decoder.embed(np.arange(len(table)))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert 0 < np.abs(found - table).max() < distance * np.abs(table).max()


@pytest.mark.parametrize("scheme", ["fp32", "int8", "int4-block64"])
def test_an_unzipped_package_is_a_plain_onnx_model(tmp_path: Path, tiny_export: Export, scheme: str) -> None:
    path = tiny_export(SCHEMES_BY_NAME.get(scheme, scheme)).path
    with ZipFile(path) as archive:
        archive.extractall(tmp_path)
    waveform = noise(FRONTEND.samples)
    with alm.load(path) as package:
        expected = package.encode(waveform[0])["audio_tokens"]
        for name, component in package.info.components.items():
            file = tmp_path / component.graph
            onnx.checker.check_model(str(file))
            session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
            if name == "audio_encoder":
                found = session.run(["audio_tokens"], {"waveform": waveform})[0][0]
                np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
