"""A package is measured in processes of its own, and its stages are the SDK's own timing."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from benchmarks.made import made_side
from typer.testing import CliRunner

import alm
from alm.answering.answers import Timing
from alm.listening.sources import RecordingSource
from alm.session import Clip
from alm_bench.commands import app
from alm_bench.machine.page_cache import drop, resident_share
from alm_bench.machine.residency import Sampler, highest_mb, thinned
from alm_bench.machine.roofline import WIDEST, kernels
from alm_bench.measuring import streaming
from alm_bench.measuring.package_facts import examine, with_cache
from alm_bench.measuring.probe import KINDS
from alm_bench.measuring.processes import roofline
from alm_bench.measuring.sweep import Plan
from alm_bench.measuring.turns import measure
from alm_bench.measuring.workloads import ask, cache_bytes, workload
from alm_bench.results.files import parse_result
from alm_bench.results.records import BenchError, Resident, Roofline, Streaming, Work
from alm_export.pipeline import Exported

pytestmark = pytest.mark.usefixtures("one_thread")


def test_run(tiny_package: Path, tmp_path: Path) -> None:
    words = ["run", str(tiny_package), "--rounds", "2", "--cache", "warm", "--sounds", "0", "--json"]
    done = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "x.json")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    result = parse_result((tmp_path / "x.json").read_text(), "x.json")
    assert json.loads(done.stdout) == json.loads(result.to_json())
    (side,) = result.sides
    (run,) = side.runs
    assert (run.threads, run.cache, run.unit, run.steps) == (1, "warm", "s", 23)
    assert all(len(readings) == 2 and min(readings) > 0 for readings in run.stages.values())
    (memory,) = side.memory
    assert memory.interpreter.total_mb < memory.steady.total_mb <= memory.highest_mb
    assert side.package is not None and side.package.size == tiny_package.stat().st_size
    assert side.energy is not None and (side.energy.joules_per_pass or side.energy.source.startswith("not available"))
    assert result.roofline[0].read_gbs > 0.1 and result.roofline[0].gemm_gflops > 0.1


def test_settings_take_turns_and_cold_files_are_dropped(tiny_package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, ...]] = []
    memory = json.loads(json.dumps(dataclasses.asdict(made_side().memory[0])))

    def run_json(words: list[str], threads: int, what: str) -> dict[str, object]:
        if "alm_bench.machine.noise" in words:
            return {"seconds": [1.0, 1.0]}
        if "alm_bench.machine.roofline" in words:
            return {"read_gbs": 1.0, "gemm_gflops": 1.0}
        kind, _, count, _ = words[3:]
        done.append((kind, count))
        stages = {"load": float(len(done))}
        told = {"unit": "s", "positions": 1, "steps": 1, "stages": stages, "peak_mb": 1.0, "cache_bytes": 0}
        return memory if kind == "memory" else told

    monkeypatch.setattr("alm_bench.measuring.processes.run_json", run_json)
    monkeypatch.setattr("alm_bench.measuring.turns.drop", lambda path: done.append(("drop",)))
    plan = Plan(threads=(1, 2), rounds=2, sounds=0, energy=False)
    result = measure([tiny_package, tiny_package], plan, lambda words: None)
    steps = iter(done)
    turns = [("cold", *next(steps)) if step == ("drop",) else ("warm", *step) for step in steps]
    a_round = [(cache, "speed", count) for cache in ("cold", "warm") for count in ("1", "1", "2", "2")]
    rounds = [turns[start : start + len(a_round)] for start in range(0, 3 * len(a_round), len(a_round))]
    assert [sorted(turn) for turn in rounds] == 3 * [a_round]
    assert len({tuple(turn) for turn in rounds}) == 3  # no setting has the same neighbours every time
    assert turns[3 * len(a_round) :] == [("warm", "memory", "1"), ("warm", "memory", "2")] * 2
    swept = [(1, "warm"), (1, "cold"), (2, "warm"), (2, "cold")]
    assert [[(run.threads, run.cache) for run in side.runs] for side in result.sides] == 2 * [swept]
    loads = [run.stages["load"] for side in result.sides for run in side.runs]
    # The first round wakes the machine and does not count.
    first = len(a_round) + sum(cache == "cold" for cache, *_ in a_round)
    assert all(len(load) == 2 and min(load) > first for load in loads) and len({*loads}) == 8


@pytest.mark.parametrize("kind", ["speed", "memory", "passes", "streaming"])
def test_a_probe_computes_with_the_threads_it_is_told(
    kind: str, tiny_package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def load(*arguments: Any, **options: Any) -> Any:
        threads.append(options["threads"])
        return loads(*arguments, **options)

    loads = alm.load
    monkeypatch.setattr(alm, "load", load)
    monkeypatch.setattr("alm_bench.measuring.repeats.PASSES_S", 0.0)
    monkeypatch.setattr(streaming, "streaming", lambda *told: Streaming(2, 0, (), (), 0.0, 0.0))
    KINDS[kind](tiny_package, 2, 0 if kind == "passes" else 2)
    assert threads == [2]


def test_delays_are_from_the_end_of_a_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = [
        streaming.LEAD_S + streaming.SOUND_S + number * (streaming.SOUND_S + streaming.PAUSE_S) for number in range(2)
    ]
    clock = iter([100.0, *(100.0 + end + 1.5 for end in ends), 112.0])
    timing = Timing(encode=0.2, prefill=0.1, first_token=0.1, decode=0.4)
    events = [SimpleNamespace(start=end - 2.0, end=end, timing=timing) for end in ends]
    model = SimpleNamespace(
        info=SimpleNamespace(frontend=SimpleNamespace(sample_rate=8000, samples=80_000), prompt=None),
        watch=lambda *arguments, **options: nullcontext(iter(events)),
    )
    monkeypatch.setattr(streaming.time, "monotonic", lambda: next(clock))
    heard = streaming.streaming(model, 2, 1)  # type: ignore[arg-type]
    assert heard.event == pytest.approx((1.5, 1.5)) and heard.first_token == pytest.approx((1.1, 1.1))
    assert heard.share == pytest.approx(0.7 / 10 / streaming.NEW)


def test_stages_are_the_timing_of_the_sdk(tiny_package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = []
    stream = Clip.stream

    def recorded(self: Clip, *arguments: object, **options: object) -> object:
        streams.append(stream(self, *arguments, **options))  # type: ignore[arg-type]
        return streams[-1]

    monkeypatch.setattr(Clip, "stream", recorded)
    with alm.load(tiny_package, threads=1) as model:
        done = ask(model, time.perf_counter, "s", 6)
    first, second = (made.answer.timing for made in streams)
    assert isinstance(first, Timing)
    assert done.stages["encode"] == first.encode
    assert done.stages["prefill"] == first.prefill
    assert done.stages["first_token"] == first.first_token
    assert done.stages["next_question"] == second.first_token
    assert done.stages["decode"] == second.decode
    assert done.stages["answer"] == first.encode + first.prefill + first.decode
    # Packages are compared over answers of one length, whatever they would say.
    assert [len(made.answer.tokens) for made in streams] == [6, 6] and done.steps == 5


def test_a_limit_is_what_the_best_kernels_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenBLAS takes a processor that it does not know for one of 256-bit vectors."""
    wide, narrow = tmp_path / "wide", tmp_path / "narrow"
    wide.write_text("flags\t\t: avx2 avx512f avx512bw\n")
    narrow.write_text("Features\t: fp asimd\n")
    assert kernels(narrow) == ("",)
    figures = {"": (37.0, 230.0), WIDEST: (29.0, 440.0)}
    monkeypatch.setattr("alm_bench.measuring.processes.kernels", lambda: kernels(wide))
    monkeypatch.setattr(
        "alm_bench.measuring.processes.run_json",
        lambda words, threads, what: dict(zip(("read_gbs", "gemm_gflops"), figures[words[-1]], strict=True)),
    )
    assert roofline(2) == Roofline(2, 37.0, 440.0)


def test_instructions_are_counted_at_the_same_places(tiny_package: Path) -> None:
    ticks = iter(range(1000))
    with alm.load(tiny_package, threads=1) as model:
        done = ask(model, lambda: float(next(ticks)), "instructions", 4)
    # Two readings around listening, then one per token.
    assert done.stages == {"encode": 1, "first_token": 1, "decode": 3, "next_question": 1, "answer": 5}


def test_a_package_of_another_machine(tiny_package: Path) -> None:
    with pytest.raises(BenchError, match=r"exported for x86_64 \(x86_64\), this machine is aarch64"):
        examine(tiny_package, "aarch64")


def test_facts_and_work(tiny_package: Path) -> None:
    facts, work = examine(tiny_package, "x86_64")
    with alm.load(tiny_package) as model:
        manifest = model.info
        weights = [name for name in manifest.components["decoder"].weights if "embedding" not in name]
        matrices = sum(t.size for name in weights for t in model.package.tensors(name).values() if t.ndim >= 2)
    assert facts.schemes["decoder"] == "fp32" and facts.weights == "path"
    assert work is not None and manifest.prompt is not None
    assert work.prefill_flop == 2 * matrices * manifest.prompt.prompt_tokens
    assert work.step_bytes >= sum(manifest.entries[name].size for name in weights)


def test_a_package_that_nothing_measures(tiny_package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alm_bench.measuring.workloads.WORKLOADS", {})
    with alm.load(tiny_package) as model, pytest.raises(BenchError, match="can ask, compare, choose; this version"):
        workload(model)


def test_a_file_that_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "x.alm").write_bytes(b"PK")
    done = CliRunner().invoke(app, ["run", str(tmp_path / "x.alm")])
    assert "x.alm" in str(done.exception)


@pytest.mark.parametrize("threads", ["0", "1,1", "two", "", "1;2"])
def test_threads_are_numbers(threads: str, tiny_package: Path) -> None:
    done = CliRunner().invoke(app, ["run", str(tiny_package), "--threads", threads])
    assert "expected numbers of threads such as 1 or 1,2,4" in str(done.exception)


def test_a_cold_file_is_not_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(8_000_000))
    path.read_bytes()
    assert resident_share(path) == 1.0
    try:
        drop(path)
    except BenchError as error:
        pytest.skip(f"this file system is in memory: {error}")
    assert resident_share(path) < 0.02


def test_memory_is_sampled_and_no_peak_is_thinned_away() -> None:
    with Sampler() as sampler:
        taken = bytearray(40_000_000)
        taken[::4096] = b"x" * len(taken[::4096])
        during = sampler.look()
        del taken
    assert during.anonymous_mb > sampler.samples[0].anonymous_mb + 35
    # The mark of the system may be some pages behind.
    assert highest_mb() > during.total_mb - 2
    samples = [Resident(float(number), 1.0, 500.0 if number == 777 else 1.0) for number in range(1000)]
    kept = thinned(samples)
    assert len(kept) <= 120 and max(sample.total_mb for sample in kept) == 501.0


@pytest.mark.parametrize(
    ("family", "stages"),
    [
        ("clapcap", {"encode", "prefill", "first_token", "decode", "answer"}),
        ("adiff", {"encode", "prefill", "first_token", "decode", "next_question", "answer"}),
        ("clap", {"encode"}),
        ("pam", {"encode"}),
    ],
)
def test_every_family_is_measured(
    family: str,
    stages: set[str],
    tiny_space: Callable[..., Exported],
    tiny_captioner_export: Callable[..., Exported],
) -> None:
    make = tiny_space if family in ("clap", "pam") else tiny_captioner_export
    path = make(family).path
    with alm.load(path, threads=1) as model:
        done = workload(model)(model, time.perf_counter, "s", 4)
    assert done.stages.keys() == stages and all(seconds > 0 for seconds in done.stages.values())
    assert done.steps == (3 if "decode" in stages else 0)
    _, work = examine(path, "x86_64")
    assert (done.positions > 0) == ("decode" in stages) == (work is not None)


@pytest.mark.parametrize(("scheme", "size"), [("fp32", 4), ("int4", 1)])
def test_keys_and_values_count_at_their_precision(
    scheme: str, size: int, tiny_export: Callable[[str], Exported]
) -> None:
    with alm.load(tiny_export(scheme).path, threads=1) as model:
        kept, shape = cache_bytes(model), model.info.decoder
        assert shape is not None and model.info.prompt is not None
        numbers = 2 * shape.layers * shape.kv_heads * shape.head_dim * model.info.prompt.prefix_tokens
    # Whole pages of memory: a head of this size takes one more at most.
    pages = 4096 * 2 * shape.layers * shape.kv_heads
    assert size * numbers <= kept <= size * numbers + pages
    weights = Work(1e6)
    assert with_cache(weights, [{"cache_bytes": kept}]) == Work(1e6 + kept) and with_cache(None, []) is None


def test_a_captioner_is_watched_without_a_question(
    tiny_captioner_export: Callable[..., Exported], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As fast as it goes, instead of in real time.
    monkeypatch.setattr(streaming, "RecordingSource", lambda scene, paced: RecordingSource(scene))
    with alm.load(tiny_captioner_export("clapcap").path, threads=1) as model:
        heard = streaming.streaming(model, 1, 1)  # type: ignore[arg-type]
    assert len(heard.event) == 1 and heard.share > 0
