"""A package whose components are methods of one ExecuTorch program: the same answers, and what is this engine's own."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_mellow import DECODER, FRONTEND, RATE, entries_of, noise, write_altered

import alm
from alm.engines import load_engine
from alm.errors import DependencyError, EngineError
from alm.package import write_package
from alm.verify import verify

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="session")
def pte_package(engine_packages: Callable[[str], Path]) -> Path:
    """The tiny model on ExecuTorch."""
    return engine_packages("executorch")


def recordings(count: int) -> list[tuple]:
    return [(noise(FRONTEND.samples, seed)[0], RATE) for seed in range(count)]


def test_states_of_other_caches_are_refused(pte_package: Path) -> None:
    with alm.load(pte_package) as model:
        decoder = model.reader.decoder
        cache = decoder.new_cache()
        cache.append(np.ones((5, DECODER.width), np.float32))
        state = cache.state()
        again = decoder.cache_from(state)
        assert again.length == 5
        np.testing.assert_array_equal(again.state(), state)
        spoiled = state.copy()
        spoiled[0, 0, 0, 0] = np.nan
        for wrong in (state.astype(np.float64), state[1:], state[:, :0], state[..., 1:], spoiled):
            with pytest.raises(EngineError, match="keys and values"):
                decoder.cache_from(wrong)


def test_a_run_that_fails_between_its_parts_leaves_the_cache_as_it_was(
    pte_package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with alm.load(pte_package) as model:
        decoder = model.reader.decoder
        cache = decoder.new_cache()
        run, rows = decoder.run, np.random.default_rng(0).normal(0, 0.5, (40, DECODER.width)).astype(np.float32)
        cache.append(rows[:5])
        expected, failing = cache.fork().append_all(rows[5:]), iter([False, True])

        def fails(*inputs: object) -> np.ndarray:
            if next(failing):
                raise EngineError("executorch failed in the decoder")
            return run(*inputs)

        monkeypatch.setattr(decoder, "run", fails)
        with pytest.raises(EngineError, match="failed in the decoder"):
            cache.append_all(rows[5:])
        assert cache.length == 5
        monkeypatch.setattr(decoder, "run", run)
        np.testing.assert_allclose(cache.append_all(rows[5:]), expected, rtol=0, atol=1e-6)


def test_it_computes_with_the_threads_asked_for(pte_package: Path) -> None:
    from alm.engines.executorch_program import runtime

    for threads in (3, 1):
        alm.load(pte_package, threads=threads).close()
        assert runtime._threadpool_get_thread_count() == threads


def test_it_verifies(pte_package: Path) -> None:
    verify(pte_package).check()


def test_the_package_says_what_runs_outside_xnnpack(pte_package: Path) -> None:
    report = json.loads(entries_of(pte_package)[1]["delegation.json"])
    assert report["audio_encoder"]["delegates"] == 1
    assert report["append"]["delegates"] == DECODER.layers + 2
    assert report["append"]["outside"]["llama.custom_sdpa.default"] == DECODER.layers
    assert set(report) == {"audio_encoder", "token_embedding", "text_decoder", "append"}


def test_runners_of_language_models_find_what_they_look_for(pte_package: Path) -> None:
    import torch
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(entries_of(pte_package)[1]["model.pte"])
    named = [name for name in program.method_names if name.startswith(("get", "use", "enable"))]
    constants = {name: program.load_method(name).execute([]) for name in named}
    with alm.load(pte_package) as model:
        shape, stop = model.info.decoder, model.info.generation.stop_id
        decoder = model.reader.decoder
        ids = np.arange(7)
        expected = decoder.new_cache().append(decoder.embed(ids))
    assert constants == {
        "get_bos_id": [stop], "get_eos_ids": [stop], "get_vocab_size": [shape.vocabulary],
        "get_max_seq_len": [shape.max_positions], "get_max_context_len": [shape.max_positions],
        "use_kv_cache": [True], "use_sdpa_with_kv_cache": [True], "enable_dynamic_shape": [True],
    }  # fmt: skip
    embeddings = program.load_method("token_embedding").execute([torch.from_numpy(ids[np.newaxis])])[0]
    text = program.load_method("text_decoder")
    text.execute([embeddings[:, :4].contiguous(), torch.tensor([0])])
    logits = text.execute([embeddings[:, 4:].contiguous(), torch.tensor([4])])[0]
    np.testing.assert_allclose(logits[0].numpy(), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("damage", ["cut", "zeros", "text", "header", "other"])
def test_a_program_that_does_not_belong_is_refused(pte_package: Path, tmp_path: Path, damage: str) -> None:
    program = entries_of(pte_package)[1]["model.pte"]
    changed = {
        "cut": lambda: program[: len(program) // 2],
        "zeros": lambda: bytes(len(program)),
        "text": lambda: b"program",
        "header": lambda: program[:16] + struct.pack("<Q", 2**62) + program[24:],
        "other": lambda: _another_program(),
    }[damage]()
    altered = write_altered(pte_package, tmp_path / "altered.alm", {"model.pte": changed})
    with pytest.raises(EngineError, match=r"export (it|the package) again"):
        alm.load(altered)


def without_a_weight(program: bytes) -> bytes:
    """XNNPACK looks a weight up by its hash; of one that is no text it can tell nothing, and the runtime gives up."""
    names = re.finditer(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])", program)
    segments = struct.unpack_from("<Q", program, 24)[0]
    place = next(name.start() for name in names if name.start() > segments)
    return program[:place] + b"\xff" + program[place + 1 :]


def with_foreign_arguments(program: bytes) -> bytes:
    """An operator of the decoder that is given a number for each of its tensors, which it sees when it runs."""
    from executorch.exir._serialize._program import deserialize_pte_binary, serialize_pte_binary
    from executorch.exir.schema import Int, KernelCall

    file = deserialize_pte_binary(program)
    (append,) = [plan for plan in file.program.execution_plan if plan.name == "append"]
    number = next(place for place, value in enumerate(append.values) if isinstance(value.val, Int))
    calls = [step.instr_args for step in append.chains[0].instructions if isinstance(step.instr_args, KernelCall)]
    calls[0].args = [number] * len(calls[0].args)
    return bytes(serialize_pte_binary(file))


@pytest.mark.parametrize("damaged", [without_a_weight, with_foreign_arguments])
def test_a_program_that_ends_the_process_is_an_error(
    pte_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    program = damaged(entries_of(pte_package)[1]["model.pte"])
    altered = write_altered(pte_package, tmp_path / "altered.alm", {"model.pte": program})
    for _ in range(2):
        with pytest.raises(EngineError, match=r"'model\.pte' ends the process that runs it \(SIGABRT\)"):
            alm.load(altered)
        # The second time the verdict is known.
        monkeypatch.setattr(subprocess, "run", None)


def test_a_program_for_another_shape_is_refused(pte_package: Path, tmp_path: Path) -> None:
    manifest, entries = entries_of(pte_package)
    decoder, prompt = manifest.decoder, manifest.prompt
    for method, change in (
        ("append", {"decoder": replace(decoder, kv_heads=decoder.kv_heads + 1)}),
        ("append", {"decoder": replace(decoder, vocabulary=decoder.vocabulary + 1)}),
        ("audio_encoder", {"prompt": replace(prompt, audio_tokens=prompt.audio_tokens + 1)}),
    ):
        write_package(tmp_path / "wrong.alm", replace(manifest, **change), entries)
        with pytest.raises(EngineError, match=rf"'{method}' of 'model\.pte' does not take or give what the manifest"):
            alm.load(tmp_path / "wrong.alm")


def test_without_its_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("alm.engines.executorch", "alm.engines.executorch_program"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "executorch", None)
    monkeypatch.setitem(sys.modules, "executorch.runtime", None)
    with pytest.raises(DependencyError, match=r"pip install 'alm-edge\[executorch\]'"):
        load_engine("executorch")


def _another_program() -> bytes:
    import torch
    from executorch.exir import to_edge
    from torch.export import export

    return to_edge(export(torch.nn.Identity(), (torch.zeros(2),))).to_executorch().buffer
