"""Schemes that only GGUF has, from the command's words to a package and to stock llama.cpp."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_mellow import DECODER, FRONTEND, QUESTION, RATE, TINY, entries_of, noise, request, tiny_model, write_tiny

import alm
from alm.errors import ExportError
from alm.verify import verify
from alm_export import mellow, pipeline
from alm_quantize.probes import bundled_probes

pytestmark = pytest.mark.usefixtures("one_thread")

WIDE = replace(TINY, decoder=replace(DECODER, width=256, hidden=256, layers=1, heads=4, kv_heads=2))


@pytest.fixture(autouse=True)
def few_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mellow, "bundled_probes", lambda rate, samples: bundled_probes(rate, samples)[:3])


@pytest.mark.parametrize(("decoder", "head"), [("q4_k", "q8_0"), ("f16", "f16"), ("q4_0", "fp32")])
def test_a_scheme_reaches_package_and_llama_cpp(tmp_path: Path, decoder: str, head: str) -> None:
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama.cpp is an extra; make test-engines installs it")
    weights = write_tiny(tmp_path / "weights", tiny_model(WIDE))
    schemes = f"audio_encoder=fp32,decoder={decoder},head={head}"
    path = pipeline.export(request(weights, tmp_path / "p.alm", schemes, engine="llama.cpp")).path
    verify(path).check()
    stock = tmp_path / "decoder.gguf"
    stock.write_bytes(entries_of(path)[1]["decoder.gguf"])
    llama = llama_cpp.Llama(str(stock), n_ctx=64, n_threads=1, logits_all=True, flash_attn=True, verbose=False)
    with alm.load(path) as model, model.listen((noise(FRONTEND.samples)[0], RATE)) as clip:
        assert clip.ask(QUESTION, max_tokens=4).tokens
        found = {name: component.scheme for name, component in model.info.components.items()}
        assert found == {"audio_encoder": "fp32", "decoder": decoder, "token_embedding": head}
        ids = model.reader.tokenizer.ids(QUESTION)
        ours = model.reader.decoder.new_cache().append_all(model.reader.decoder.embed(np.array(ids)))
    # As a text model it looks the tokens up itself; the SDK hands their embeddings over.
    assert llama.tokenize(QUESTION.encode(), add_bos=False) == ids
    llama.eval(ids)
    np.testing.assert_allclose(ours, llama.scores[: len(ids)], rtol=0, atol=0.02)


def test_a_decoder_without_whole_blocks_is_an_error(tiny_weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama.cpp is an extra; make test-engines installs it")
    with pytest.raises(ExportError, match=r"q4_0 stores 32 weights of a row together, and rows of 48 .* choose f16"):
        pipeline.export(request(tiny_weights, tmp_path / "p.alm", "int4", engine="llama.cpp"))
    assert [entry.name for entry in tmp_path.iterdir()] == []
