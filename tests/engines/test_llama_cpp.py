"""A package whose decoder runs on llama.cpp: the same answers, and what only this engine can get wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tiny_mellow import FRONTEND, QUESTION, RATE, entries_of, noise, write_altered

import alm
from alm.engines import load_engine
from alm.errors import DependencyError, EngineError
from alm.package import write_package
from alm.verify import verify

pytestmark = pytest.mark.usefixtures("one_thread")

QUESTIONS = (QUESTION, "is there a dog barking?", "what is the sound? a) rain b) siren", "?")


def recordings(count: int) -> list[tuple]:
    return [(noise(FRONTEND.samples, seed)[0], RATE) for seed in range(count)]


def test_answers_are_those_of_onnxruntime(gguf_package: Path, tiny_package: Path) -> None:
    with alm.load(gguf_package) as ours, alm.load(tiny_package) as other:
        assert ours.info.components["decoder"].engine == "llama.cpp"
        for recording in recordings(5):
            with ours.listen(recording) as clip, other.listen(recording) as expected:
                for question in QUESTIONS:
                    assert clip.ask(question, max_tokens=12).tokens == expected.ask(question, max_tokens=12).tokens
                chosen = clip.choose(QUESTION, ["rain", "a siren", "a bell"])
                wanted = expected.choose(QUESTION, ["rain", "a siren", "a bell"])
                assert chosen.probabilities == pytest.approx(wanted.probabilities, abs=1e-4)


def test_streams_are_cancelled_and_others_go_on(gguf_package: Path) -> None:
    with alm.load(gguf_package) as model, model.listen(recordings(1)[0]) as clip:
        whole = clip.ask(QUESTION, max_tokens=12)
        streams = [clip.stream(QUESTION, max_tokens=12) for _ in range(6)]
        pieces = [[next(stream)] for stream in streams]
        streams[2].close()
        for number, stream in enumerate(streams):
            pieces[number].extend(stream)
        assert [piece.token for piece in pieces[2]] == list(whole.tokens[:1])
        assert all(tuple(p.token for p in pieces[n]) == whole.tokens for n in (0, 1, 3, 4, 5))


def test_sessions_are_saved_without_prefixes_only(gguf_package: Path, tmp_path: Path) -> None:
    with alm.load(gguf_package) as model, model.listen(recordings(1)[0]) as clip:
        answer = clip.ask(QUESTION, max_tokens=8)
        with pytest.raises(EngineError, match="prefixes=False"):
            clip.save(tmp_path / "clip.alms")
        assert list(tmp_path.iterdir()) == []
        clip.save(tmp_path / "clip.alms", prefixes=False)
        with alm.restore(tmp_path / "clip.alms", model) as again:
            assert again.ask(QUESTION, max_tokens=8).tokens == answer.tokens


def test_it_verifies_and_is_mapped_in_place(gguf_package: Path) -> None:
    verify(gguf_package).check()
    with alm.load(gguf_package):
        assert str(gguf_package.resolve()) in Path("/proc/self/maps").read_text()


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


def test_it_runs_decoders_only(gguf_package: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    manifest, entries = entries_of(gguf_package)
    encoder = replace(manifest.components["audio_encoder"], engine="llama.cpp")
    components = {**manifest.components, "audio_encoder": encoder}
    write_package(tmp_path / "wrong.alm", replace(manifest, components=components), entries)
    with pytest.raises(EngineError, match=r"cannot run the component audio_encoder"):
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
