"""Every rival reads what is made for it and gives stages; what cannot run says why, in tables too."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from benchmarks.made import made_result, made_run, made_side
from tiny_mellow import ENCODER, TINY, tiny_model, tiny_tokenizer
from typer.testing import CliRunner

from alm_bench.commands import app
from alm_bench.measuring import repeats
from alm_bench.measuring.repeats import repeated
from alm_bench.reports.figures import decode_share, prefill_share
from alm_bench.reports.readme import table
from alm_bench.reports.tables import tables
from alm_bench.results.files import parse_result
from alm_bench.results.records import STAGES, BenchError, Roofline, Work
from alm_bench.rivals import files as rival_files
from alm_bench.rivals import work as rival_work
from alm_bench.rivals.files import unzip
from alm_bench.rivals.runs import RUNS
from alm_bench.rivals.turns import RIVALS, measure_rivals
from alm_train.models.smollm2 import SmolLM2, SmolLM2Config

pytestmark = pytest.mark.usefixtures("one_thread")
# A rival that reads ids reads the numbers below 1000; llama.cpp's blocks have 32 weights.
DECODER = SmolLM2Config(vocabulary=1024, width=64, hidden=96, layers=2, heads=2, kv_heads=1, max_positions=512)
TOKENS = 4


@pytest.fixture
def random_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--weights random` with a decoder of two small layers, and clips of the tiny encoder's length."""
    weights = SimpleNamespace(
        model=tiny_model(dataclasses.replace(TINY, decoder=DECODER)), tokenizer=tiny_tokenizer().to_str(), name="tiny"
    )
    monkeypatch.setattr("alm_train.checkpoints.weights.load_weights", lambda source: weights)
    monkeypatch.setattr("alm_bench.rivals.runs.SAMPLES", ENCODER.frontend.samples)


@pytest.mark.usefixtures("random_weights")
@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("authors", {"encode", "prefix", "decode", "answer"}),
        ("transformers", {"encode", "prefix", "decode", "answer"}),
        ("llama.cpp", {"prefix", "decode"}),
        ("onnx-naive", {"prefix", "decode"}),
        ("onnxruntime-genai", {"prefix", "decode"}),
    ],
)
def test_a_rival_gives_stages(name: str, stages: set[str], tmp_path: Path) -> None:
    for module in RIVALS[name].needs:
        pytest.importorskip(module)
    try:
        place = RIVALS[name].prepare(tmp_path)
    except BenchError as error:
        pytest.skip(f"{name} cannot be prepared with the versions here: {error}")
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert RIVALS[name].prepare(tmp_path) == place
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == made
    runner = RUNS[name](place, 1, TOKENS)
    first, second = runner.once(), runner.once()
    assert first.keys() == second.keys() == stages
    assert runner.load > 0 and min(*first.values(), *second.values()) > 0


def test_what_is_not_installed_is_in_the_result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("alm_bench.rivals.turns.find_spec", lambda name: None)
    done = CliRunner().invoke(app, ["rivals", "--only", "onnxruntime-genai", "--folder", str(tmp_path)])
    assert isinstance(done.exception, BenchError)
    assert "not installed: onnxruntime_genai, transformers; pip install 'alm-edge[rivals]'" in str(done.exception)


def test_what_cannot_be_prepared_is_in_the_tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def breaks(folder: Path) -> Path:
        raise BenchError("its builder wants another version")

    broken = dataclasses.replace(RIVALS["authors"], prepare=breaks)
    works = dataclasses.replace(RIVALS["transformers"], prepare=rival_files.nothing, work=lambda path: None)
    dies = dataclasses.replace(works, about="one that dies")
    monkeypatch.setattr("alm_bench.rivals.turns.RIVALS", {"authors": broken, "transformers": works, "onnx-naive": dies})
    told = {"unit": "s", "positions": 389, "steps": 3, "stages": {"decode": 1.0}, "peak_mb": 5.0, "cache_bytes": 0}
    asked = []

    def run(command: list[str], threads: int, what: str) -> dict[str, object]:
        asked.append(what)
        if what == "measuring onnx-naive":
            raise BenchError("killed by signal 4")
        return told

    monkeypatch.setattr("alm_bench.rivals.turns.run_json", run)
    monkeypatch.setattr("alm_bench.rivals.turns.fixed_work", lambda threads: (1.0, 1.0))
    monkeypatch.setattr("alm_bench.rivals.turns.roofline", lambda count: Roofline(count, 1.0, 1.0))
    names = ["authors", "transformers", "onnx-naive"]
    result = measure_rivals(names, tmp_path, (1,), 2, lambda words: None)
    assert [side.name for side in result.sides] == ["transformers"]
    # A round that does not count and two that do; what has failed once is not tried again.
    assert sorted(asked) == ["measuring onnx-naive", *["measuring transformers"] * 3]
    (run_alone,) = result.sides[0].runs
    assert run_alone.stages == {"decode": (1.0, 1.0)}
    assert "transformers" in result.environment.versions
    read = parse_result(result.to_json(), "here")
    (absent,) = [made for made in tables(read) if made.title == "Not measured"]
    (name, reason), (other, died) = absent.rows
    assert other == "onnx-naive" and died.startswith("one that dies: killed by signal 4; pip install")
    assert name == "authors" and "its builder wants another version; pip install 'alm-edge[rivals]' has" in reason
    shown = table(dataclasses.replace(made_result(made_side("package")), absent=read.absent))
    assert "\n\nNot measured: PyTorch as the authors run it, no KV cache: its builder wants" in shown


def test_our_package_decodes_as_the_runners_do(tiny_package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole answers through the SDK, and the prefix and the decoder alone on the runners' own rows."""
    monkeypatch.setattr("alm_bench.rivals.own_runners.PREFIX", 40)
    runner = RUNS["package"](tiny_package, 1, TOKENS)
    stages = runner.once()
    assert stages.keys() == {*STAGES} - {"load"}
    assert runner.cache_bytes > 0 and min(stages.values()) > 0


def test_our_own_package_must_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("alm_bench.rivals.files.platform.machine", lambda: "riscv64")
    with pytest.raises(BenchError, match="exported for x86_64 and aarch64, this machine is riscv64"):
        measure_rivals(["package"], tmp_path, (1,), 1, lambda words: None)


@pytest.mark.parametrize(
    ("positions", "engine", "message"),
    [
        (100_000, None, r"expected a decoder of 100000 positions or more, found one of \d+$"),
        (1, "llama.cpp", "was exported for onnxruntime, expected a package for llama.cpp"),
    ],
)
def test_packages_that_own_runners_cannot_open(
    positions: int, engine: str | None, message: str, tiny_package: Path, tmp_path: Path
) -> None:
    with pytest.raises(BenchError, match=message):
        unzip(tiny_package, tmp_path, positions, engine)
    assert not [*tmp_path.iterdir()]


def test_a_study_ends_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.alm"
    path.write_bytes(b"PK")
    words = [sys.executable, "-m", "alm_bench.studies.engines", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and done.stderr.startswith(f"engines: {path}: ")


def test_unknown_rivals() -> None:
    done = CliRunner().invoke(app, ["rivals", "--only", "tflite"])
    assert "unknown rival 'tflite'; this version has package, authors, transformers" in str(done.exception)


def test_work_is_that_of_the_official_shape() -> None:
    with torch.device("meta"):
        model = SmolLM2(SmolLM2Config())
    matrices = sum(tensor.numel() for tensor in model.state_dict().values() if tensor.ndim == 2)
    cached, without = rival_work.float32(Path()), rival_work.no_cache(Path())
    keys_and_values = 2 * 4 * 30 * 3 * 64 * 389
    assert cached.step_bytes == 4 * matrices + keys_and_values
    assert cached.step_flop == 2 * matrices
    # The answer of 24 tokens adds 12 positions on average, and all have logits.
    assert without.step_flop == 2 * matrices * (389 + 12) and without.step_bytes == 4 * matrices


def test_without_a_cache_the_matrix_rate_is_the_limit() -> None:
    side = dataclasses.replace(made_side(run=made_run(prefix=(0.1,))), work=Work(1e9, None, 4e9, 5e9))
    result = made_result(side)
    # 20 steps a second: 20 GB/s of 50, but 80 GFLOP/s of 100; the prefix is 50 GFLOP/s.
    assert decode_share(result, side, side.runs[0]) == pytest.approx(0.8)
    assert prefill_share(result, side, side.runs[0]) == pytest.approx(0.5)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Moves the clock that `repeated` looks at."""
    now = [0.0]
    monkeypatch.setattr(repeats.time, "perf_counter", lambda: now[0])
    yield lambda seconds: now.__setitem__(0, now[0] + seconds)


def test_the_first_pass_does_not_count(clock: Callable[[float], None]) -> None:
    readings = iter([9.0, 1.0, 2.0, 3.0, *[2.0] * 100])
    warmed: list[int] = []

    def once() -> dict[str, float]:
        clock(0.4)
        return {"decode": next(readings)}

    assert repeated(once, lambda: warmed.append(1)) == {"decode": 2.0}
    # After the first, three passes of 0.4 s begin within a second.
    assert len(list(readings)) == 100 and warmed == [1]


def test_a_long_pass_is_the_only_one(clock: Callable[[float], None]) -> None:
    def once() -> dict[str, float]:
        clock(18.0)
        return {"decode": 17.0}

    assert repeated(once) == {"decode": 17.0}
