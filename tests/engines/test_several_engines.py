"""One package for two engines: what they share is in it once, and each answers as a package of its own does."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_mellow import DECODER, FRONTEND, QUESTION, RATE, TINY, noise, request, tiny_model, write_tiny

import alm
from alm.package import Package
from alm.verify import verify_engines
from alm_export import mellow
from alm_export.pipeline import Exported, export
from alm_quantize.probes import bundled_probes

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=["onnxruntime,llama.cpp", "llama.cpp,onnxruntime"])
def exported(request: pytest.FixtureRequest, exports: Callable[[str], Exported]) -> Exported:
    return exports(request.param)


def test_the_engines_share_the_encoder(exported: Exported) -> None:
    manifest = exported.manifest
    assert manifest.engines == tuple(exported.made)
    (other,) = manifest.variants.values()
    assert other.components["audio_encoder"] == manifest.components["audio_encoder"]
    # Each reads the token embedding from its own decoder's weights.
    assert {manifest.components["decoder"].graph, other.components["decoder"].graph} == {"decoder.onnx", "decoder.gguf"}
    assert len(manifest.distinct_components) == 5


def test_both_answer_alike_and_pass_the_self_test(exported: Exported) -> None:
    assert [result.engine for result in verify_engines(exported.path)] == list(exported.manifest.engines)
    assert all(result.ok for result in verify_engines(exported.path))
    answers = []
    for engine in exported.manifest.engines:
        with alm.load(exported.path, engine=engine) as model, model.listen((noise(FRONTEND.samples)[0], RATE)) as clip:
            answers.append(clip.ask(QUESTION, max_tokens=12).tokens)
    assert answers[0] == answers[1]


def test_quantized_each_engine_is_measured_and_parts_are_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("llama_cpp")
    monkeypatch.setattr(mellow, "bundled_probes", lambda rate, samples: bundled_probes(rate, samples)[:6])
    weights = write_tiny(tmp_path / "weights", tiny_model(replace(TINY, decoder=replace(DECODER, width=96, hidden=64))))
    made = export(request(weights, tmp_path / "p.alm", "int8", engine="llama.cpp,onnxruntime"))
    quality, manifest = made.manifest.quality, made.manifest
    assert manifest.engines == ("llama.cpp", "onnxruntime")
    assert manifest.components["decoder"].scheme == "q8_0"
    assert quality["whole"] != quality["variants"]["onnxruntime"]["whole"]
    assert quality["tried"][-1]["schemes"]["audio_encoder"] == "uint8"
    # Encoder stages come from one graph, so one array serves both; the decoders' differ.
    with Package.open(made.path) as package, np.load(io.BytesIO(package.read("golden.npz"))) as arrays:
        own = {name for name in arrays.files if "/" in name}
        card = package.read("README.md").decode()
    assert "onnxruntime/logits" in own
    assert own <= {"onnxruntime/logits", "onnxruntime/tokens"}
    assert manifest.golden != manifest.variants["onnxruntime"].golden
    assert "right answers on llama.cpp" in card
    assert "right answers on onnxruntime" in card


def test_an_engine_that_shares_nothing_has_entries_of_its_own(exports: Callable[[str], Exported]) -> None:
    exported = exports("onnxruntime,executorch")
    own, other = exported.manifest.components, exported.manifest.variants["executorch"].components
    assert {component.graph for component in other.values()} == {"model.pte"}
    assert not {component.graph for component in own.values()} & {"model.pte"}
    with alm.load(exported.path, engine="executorch") as model, alm.load(exported.path) as first:
        recording = noise(FRONTEND.samples)[0], RATE
        with model.listen(recording) as clip, first.listen(recording) as expected:
            assert clip.ask(QUESTION, max_tokens=12).tokens == expected.ask(QUESTION, max_tokens=12).tokens
