"""A package whose decoder runs on llama.cpp: the same answers, and what only this engine can get wrong."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_mellow import DECODER, FRONTEND, RATE, entries_of, noise, write_altered

import alm
from alm.engines import load_engine
from alm.errors import DependencyError, EngineError, SessionError
from alm.package import Package, write_package
from alm.verify import verify

pytestmark = pytest.mark.usefixtures("one_thread")


def recordings(count: int) -> list[tuple]:
    return [(noise(FRONTEND.samples, seed)[0], RATE) for seed in range(count)]


def test_another_layout_of_keys_and_values_is_an_error(
    gguf_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alm.engines import llama_state

    with alm.load(gguf_package) as model, model.listen(recordings(1)[0]) as clip:
        clip.save(tmp_path / "clip.alms")
        # As if a later llama.cpp began its states with another number.
        monkeypatch.setattr(llama_state, "MAGIC", llama_state.MAGIC + 1)
        with pytest.raises(EngineError, match="prefixes=False"):
            clip.save(tmp_path / "other.alms")
        assert [path.name for path in tmp_path.iterdir()] == ["clip.alms"]
        with pytest.raises(SessionError, match="did not take the keys and values"):
            alm.restore(tmp_path / "clip.alms", model)
        clip.save(tmp_path / "other.alms", prefixes=False)
        alm.restore(tmp_path / "other.alms", model).close()


def test_flash_attention_gives_nearly_the_same_logits_and_the_same_states(gguf_package: Path) -> None:
    rows = np.random.default_rng(2).normal(0, 0.5, (20, DECODER.width)).astype(np.float32)
    with Package.open(gguf_package) as package:
        exact, flash = (
            load_engine("llama.cpp", 1, {"flash_attention": flash}).load_decoder(package) for flash in (False, True)
        )
        first, second = exact.new_cache(), flash.new_cache()
        logits = first.append(rows)
        np.testing.assert_allclose(second.append(rows), logits, rtol=0, atol=0.02)
        assert not np.array_equal(second.append(rows), first.append(rows))
        with pytest.raises(EngineError, match=r"flash_attention of 'llama\.cpp' is 'on'; expected bool or None"):
            alm.load(gguf_package, engine_options={"flash_attention": "on"})
        # What one saved the other can read: its layout does not depend on the option.
        np.testing.assert_allclose(flash.cache_from(first.state()).state(), first.state(), rtol=0, atol=0)
        following = exact.cache_from(second.state()).append(rows)
        np.testing.assert_allclose(following, first.append(rows), rtol=0, atol=0.02)


def test_it_verifies_and_has_one_table_of_tokens(gguf_package: Path) -> None:
    verify(gguf_package).check()
    with alm.load(gguf_package) as model:
        components = model.info.components
        assert components["token_embedding"].graph == components["decoder"].graph == "decoder.gguf"
        assert not [name for name in model.info.entries if "token_embedding" in name]


@pytest.mark.parametrize("damage", ["cut", "zeros", "text", "other"])
def test_a_decoder_that_does_not_belong_is_refused(gguf_package: Path, tmp_path: Path, damage: str) -> None:
    gguf = entries_of(gguf_package)[1]["decoder.gguf"]
    changed = {
        "cut": lambda: gguf[: len(gguf) // 2],
        "zeros": lambda: bytes(len(gguf)),
        "text": lambda: b"decoder",
        "other": lambda: _another_gguf(tmp_path),
    }[damage]()
    altered = write_altered(gguf_package, tmp_path / "altered.alm", {"decoder.gguf": changed})
    with pytest.raises(EngineError, match="export the package again"):
        alm.load(altered)


def test_a_package_that_was_replaced_after_it_was_checked_is_refused(gguf_package: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.alm"
    path.write_bytes(gguf_package.read_bytes())
    with Package.open(path) as package:
        path.unlink()
        path.write_bytes(gguf_package.read_bytes())
        with pytest.raises(EngineError, match="was replaced or moved while it was being loaded"):
            load_engine("llama.cpp", 1).load_decoder(package)


def test_it_computes_with_the_threads_asked_for(gguf_package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from alm.engines import llama_seat

    make, asked = llama_seat.llama.llama_init_from_model, []

    def spied(model: object, options: Any) -> object:
        asked.append((options.n_threads, options.n_threads_batch))
        return make(model, options)

    monkeypatch.setattr(llama_seat.llama, "llama_init_from_model", spied)
    with alm.load(gguf_package, threads=3) as model:
        model.reader.decoder.new_cache().append(np.ones((2, DECODER.width), np.float32))
    assert set(asked) == {(3, 3)}


def test_a_run_that_fails_leaves_the_cache_as_it_was(gguf_package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from alm.engines import llama_seat

    rows = np.random.default_rng(0).normal(0, 0.5, (9, DECODER.width)).astype(np.float32)
    decode = llama_seat.llama.llama_decode
    with alm.load(gguf_package) as model:
        cache, other = (model.reader.decoder.new_cache() for _ in range(2))
        expected = other.append(rows)
        cache.append(rows[:5])
        with monkeypatch.context() as patch:
            # Positions are in llama.cpp's memory by then.
            patch.setattr(llama_seat.llama, "llama_decode", lambda context, batch: decode(context, batch) or 2)
            with pytest.raises(EngineError, match="failed in the decoder with code 2"):
                cache.append(rows[5:8])
        assert cache.length == 5
        np.testing.assert_allclose(cache.append(rows[5:]), expected, rtol=0, atol=1e-4)


def test_it_runs_decoders_only(gguf_package: Path, tmp_path: Path) -> None:
    manifest, entries = entries_of(gguf_package)
    encoder = replace(manifest.components["audio_encoder"], engine="llama.cpp")
    components = {**manifest.components, "audio_encoder": encoder}
    write_package(tmp_path / "wrong.alm", replace(manifest, components=components), entries)
    with pytest.raises(EngineError, match=r"cannot run the component audio_encoder"):
        alm.load(tmp_path / "wrong.alm")


def test_decoder_and_token_embedding_are_one_entry(gguf_package: Path, tmp_path: Path) -> None:
    manifest, entries = entries_of(gguf_package)
    elsewhere = replace(manifest.components["token_embedding"], graph="audio_encoder.onnx")
    components = {**manifest.components, "token_embedding": elsewhere}
    write_package(tmp_path / "wrong.alm", replace(manifest, components=components), entries)
    with pytest.raises(EngineError, match=r"in 'audio_encoder\.onnx' and the decoder in 'decoder\.gguf'"):
        alm.load(tmp_path / "wrong.alm")


def test_another_engine_cannot_be_asked_for(gguf_package: Path) -> None:
    with pytest.raises(EngineError, match=r"was exported for llama\.cpp, not for 'onnxruntime'"):
        alm.load(gguf_package, engine="onnxruntime")
    alm.load(gguf_package, engine="llama.cpp").close()


def test_without_its_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    monkeypatch.delitem(sys.modules, "alm.engines.llama_cpp", raising=False)
    with pytest.raises(DependencyError, match=r"pip install 'alm-edge\[gguf\]'"):
        load_engine("llama.cpp")


def _another_gguf(folder: Path) -> bytes:
    from tiny_mellow import tiny_tokenizer

    from alm_export.llama_gguf import write_gguf
    from alm_train.models.smollm2 import SmolLM2, SmolLM2Config

    config = SmolLM2Config(vocabulary=320, width=32, hidden=48, layers=1, heads=2, kv_heads=1, max_positions=64)
    write_gguf(folder / "other.gguf", SmolLM2(config), tiny_tokenizer().to_str(), name="other", stop_id=0)
    return (folder / "other.gguf").read_bytes()
