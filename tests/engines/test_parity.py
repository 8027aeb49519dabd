"""Model, engine and precision: the same answers in float32, and sessions that behave the same whatever runs them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_mellow import DECODER, FRONTEND, QUESTION, RATE, TINY, entries_of, noise, request, tiny_model, write_tiny

import alm
from alm.engines import ENGINES
from alm.errors import PackageError, SessionError
from alm.models.mellow import Mellow
from alm.package import write_package
from alm_export import mellow, pipeline
from alm_quantize.probes import bundled_probes
from alm_train.checkpoints.weights import load_weights

pytestmark = pytest.mark.usefixtures("one_thread")

QUESTIONS = (QUESTION, "is there a dog barking?", "what is the sound? a) rain b) siren", "?")
OPTIONS = ["rain", "a siren", "a bell"]
FORMS = [*ENGINES, "onnxruntime int8", "llama.cpp int8"]
"""Float32 on each engine; and quantized, where onnxruntime keeps its keys and values in 8 bits."""


@pytest.fixture(scope="module")
def small_form(
    engine_packages: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A tiny model in 8 bits on an engine."""
    weights = write_tiny(
        tmp_path_factory.mktemp("small") / "weights",
        tiny_model(replace(TINY, decoder=replace(DECODER, width=96, hidden=64))),
    )

    def exported(engine: str) -> Path:
        engine_packages(engine)  # which skips where the engine is not installed
        path = tmp_path_factory.mktemp("small") / "small.alm"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mellow, "bundled_probes", lambda rate, samples: bundled_probes(rate, samples)[:3])
            return pipeline.export(request(weights, path, "int8", engine=engine)).path

    return exported


@pytest.fixture(scope="module", params=FORMS)
def model(
    request: pytest.FixtureRequest,
    engine_packages: Callable[[str], Path],
    small_form: Callable[[str], Path],
) -> Iterator[Mellow]:
    engine, _, precision = request.param.partition(" ")
    with alm.load((small_form if precision else engine_packages)(engine)) as loaded:
        yield loaded


def sound(seed: int) -> tuple[np.ndarray, int]:
    return noise(FRONTEND.samples, seed)[0], RATE


@pytest.mark.parametrize("engine", ENGINES)
def test_float32_gives_the_tokens_of_pytorch(
    engine: str, engine_packages: Callable[[str], Path], tiny_weights: Path
) -> None:
    reference = load_weights(str(tiny_weights)).model
    with alm.load(engine_packages(engine)) as model, torch.inference_mode():
        assert model.info.components["decoder"].engine == engine
        for seeds in ((0, 0), (1, 1), (2, 2), (0, 3)):
            audio = [reference.audio_tokens(torch.from_numpy(sound(seed)[0])[None]) for seed in seeds]
            for question in QUESTIONS:
                ids = torch.from_numpy(model.reader.tokenizer.prompt(question))[None]
                expected = reference.generate(reference.prefix(*audio, ids), 12)
                found = model.compare(*map(sound, seeds), question, max_tokens=12)
                assert [*found.tokens] == [token for token in expected if token != model.info.generation.stop_id]


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "onnxruntime"])
def test_chances_and_drawn_answers_are_those_of_onnxruntime(
    engine: str, engine_packages: Callable[[str], Path]
) -> None:
    def told(clip: alm.Clip) -> tuple[list[float], list[tuple[int, ...]]]:
        drawn = [clip.ask(QUESTION, max_tokens=12, temperature=1.0, seed=seed).tokens for seed in range(4)]
        return list(clip.choose(QUESTION, OPTIONS).probabilities), drawn

    with alm.load(engine_packages(engine)) as ours, alm.load(engine_packages("onnxruntime")) as other:
        for seed in range(3):
            with ours.listen(sound(seed)) as clip, other.listen(sound(seed)) as expected:
                (found, drawn), (wanted, same) = told(clip), told(expected)
            assert found == pytest.approx(wanted, abs=1e-4)
            assert drawn == same
            assert len(set(drawn)) > 1


@pytest.mark.parametrize(("engine", "kept"), [("onnxruntime", np.int8), ("llama.cpp", np.float16)])
def test_quantized_packages_keep_small_keys_and_values(
    small_form: Callable[[str], Path], engine: str, kept: type[np.generic]
) -> None:
    with alm.load(small_form(engine)) as model:
        cache = model.reader.decoder.new_cache()
        cache.append(model.reader.decoder.embed(np.arange(5)))
        assert cache.state().dtype == kept


def test_drafts_and_streams_give_the_answer(model: Mellow) -> None:
    with model.listen(sound(0)) as clip:
        for question in QUESTIONS:
            answer = clip.ask(question, max_tokens=12)
            assert [piece.token for piece in clip.stream(question, max_tokens=12)] == [*answer.tokens]
            for draft in (answer.text, "rain", answer.text[:3] + "rain"):
                assert clip.ask(question, max_tokens=12, draft=draft).tokens == answer.tokens


def test_streams_are_cancelled_and_others_go_on(model: Mellow) -> None:
    with model.listen(sound(0)) as clip:
        whole = clip.ask(QUESTION, max_tokens=12)
        streams = [clip.stream(QUESTION, max_tokens=12) for _ in range(6)]
        pieces = [[next(stream)] for stream in streams]
        streams[2].close()
        for number, stream in enumerate(streams):
            pieces[number].extend(stream)
        assert [piece.token for piece in pieces[2]] == [*whole.tokens[:1]]
        assert all(tuple(p.token for p in pieces[n]) == whole.tokens for n in (0, 1, 3, 4, 5))


def test_an_answer_that_another_thread_or_task_ends(model: Mellow) -> None:
    with model.listen(sound(0)) as clip:
        whole, begun = clip.ask(QUESTION, max_tokens=12), threading.Event()
        stream, taken = clip.stream(QUESTION, max_tokens=100), []

        def take() -> None:
            for piece in stream:
                taken.append(piece.token)
                begun.set()

        thread = threading.Thread(target=take)
        thread.start()
        assert begun.wait(20)
        stream.close()
        thread.join(20)
        assert not thread.is_alive()

        async def glance() -> list[int]:
            pieces = clip.stream_async(QUESTION, max_tokens=100)
            seen = [(await anext(pieces)).token, (await anext(pieces)).token]
            await pieces.aclose()
            return seen

        assert asyncio.run(glance()) == [*whole.tokens[:2]]
        # The engine is free, and what was left unfinished has changed nothing.
        assert clip.ask(QUESTION, max_tokens=12).tokens == whole.tokens


def test_a_restored_session_answers_as_the_saved_one(model: Mellow, tmp_path: Path) -> None:
    with model.listen(sound(0)) as clip:
        answers = [clip.ask(question, max_tokens=8).tokens for question in QUESTIONS]
        clip.save(tmp_path / "clip.alms")
    with alm.load(model.package.path) as fresh, alm.restore(tmp_path / "clip.alms", fresh) as again:
        assert [again.ask(question, max_tokens=8).tokens for question in QUESTIONS] == answers
        again.save(tmp_path / "again.alms")
    assert (tmp_path / "again.alms").read_bytes() == (tmp_path / "clip.alms").read_bytes()


def test_watching_says_what_asking_says(model: Mellow) -> None:
    samples = np.concatenate([sound(seed)[0] for seed in range(3)])
    with model.watch((samples, RATE), QUESTION, gate=None, max_tokens=6) as events:
        found = [event.text for event in events]
    with model.listen(sound(0)) as clip:
        assert found[0] == clip.ask(QUESTION, max_tokens=6).text


def test_watching_passes_silence_over(model: Mellow) -> None:
    loud, silence = sound(0)[0], np.zeros(2 * RATE, np.float32)
    with model.watch((np.concatenate([silence, loud, silence]), RATE), QUESTION, max_tokens=6) as events:
        found = list(events)
    assert 1.4 <= found[0].start <= 2
    assert found[-1].end < 2 + len(loud) / RATE + 1


def test_a_token_embedding_for_another_engine_than_the_decoders_is_refused(
    engine_package: Path, tmp_path: Path
) -> None:
    manifest, entries = entries_of(engine_package)
    foreign = next(name for name in ENGINES if name != manifest.engine)
    embedding = replace(manifest.components["token_embedding"], engine=foreign)
    write_package(
        tmp_path / "wrong.alm",
        replace(manifest, components={**manifest.components, "token_embedding": embedding}),
        entries,
    )
    with pytest.raises(PackageError, match=f"the token_embedding to the engine '{foreign}' and the decoder to"):
        alm.load(tmp_path / "wrong.alm")


@pytest.mark.parametrize("other", [name for name in ENGINES if name != "onnxruntime"])
def test_a_session_of_another_engine_is_refused(
    exports: Callable[[str], pipeline.Exported], tmp_path: Path, other: str
) -> None:
    path = exports(f"onnxruntime,{other}").path
    with alm.load(path) as model, model.listen(sound(0)) as clip:
        clip.save(tmp_path / "clip.alms")
    with alm.load(path, engine=other) as model, pytest.raises(SessionError, match=f"on onnxruntime.* on {other}"):
        alm.restore(tmp_path / "clip.alms", model)
