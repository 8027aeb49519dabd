"""Results made up for tests: readings are what a test says they are."""

from __future__ import annotations

from alm_bench.results.records import (
    Environment,
    Memory,
    Noise,
    PackageFacts,
    Resident,
    Result,
    Roofline,
    Run,
    Score,
    Side,
    Work,
)

ENVIRONMENT = Environment("x86_64", "a processor", 2, 1000.0, "Linux", False, {"numpy": "2"}, {}, {"temperature": "50"})
FACTS = PackageFacts(
    sha256="0" * 64,
    size=8_000_000,
    installed=100_000_000,
    family="mellow",
    model="tiny",
    parameters=1000,
    weights="path",
    target="x86_64",
    scheme="int4",
    engine="onnxruntime",
    schemes={"decoder": "int4-block32"},
    quality={"agreement": Score(0.98, 0.95, 0.99, 300)},
)
STAGES = {"load": 0.5, "encode": 1.0, "prefill": 0.2, "first_token": 0.21, "decode": 0.5, "answer": 1.7}


def made_run(factor: float = 1.0, **stages: tuple[float, ...]) -> Run:
    """A run on two threads whose stages take `factor` times STAGES, but those that are given."""
    usual = {name: (seconds * factor,) * 3 for name, seconds in STAGES.items()}
    return Run(2, "warm", "s", 389, 10, {**usual, **stages}, (200.0, 210.0, 220.0))


def made_side(name: str = "ours", run: Run | None = None) -> Side:
    """A side with everything that a package has but streaming and energy."""
    timeline = (Resident(0.0, 10.0, 10.0), Resident(1.0, 20.0, 200.0), Resident(2.0, 20.0, 100.0))
    memory = Memory(2, timeline[0], timeline[2], timeline[1], 225.0, {"load": 0.5}, timeline)
    return Side(name, "a package", (run or made_run(),), (memory,), FACTS, Work(2e9, 1e9))


def made_result(*sides: Side, busy: tuple[str, ...] = ()) -> Result:
    """A result on a machine of 50 GB/s and 100 GFLOP/s with two threads."""
    noise = Noise((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), 0.01, busy)
    limits = (Roofline(1, 30.0, 50.0), Roofline(2, 50.0, 100.0))
    return Result("2026-01-01T00:00:00+00:00", "local", ENVIRONMENT, noise, limits, sides or (made_side(),))
