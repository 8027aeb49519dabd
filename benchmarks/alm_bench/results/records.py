"""What a benchmark found out: the machine, how steady it was, and the readings of each side."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from alm.errors import AlmError
from alm.package.schema import Between

SCHEMA = 1
"""Version of the layout of a result file."""

STAGES = {
    "load": "package to model",
    "encode": "two clips to kept KV prefix",
    "prefill": "question through the decoder",
    "first_token": "question to first token",
    "prefix": "389 positions through the decoder alone, to the first token",
    "decode": "first token of the next answer to its last",
    "next_question": "next question to its first token",
    "answer": "two clips and question to last token",
}
"""What is measured, in the order in which it happens. Engines alone have some of these."""

Count = Annotated[int, Between(0, 2**63)]
Positive = Annotated[float, Between(0, 1e18)]
Readings = tuple[Positive, ...]


class BenchError(AlmError):
    """A measurement cannot be made here, or a result file cannot be used."""


@dataclass(frozen=True)
class Environment:
    """The machine that was measured."""

    machine: str
    """Architecture, such as "x86_64"."""
    processor: str
    """Name of the processor as the system tells it."""
    cores: Count
    """Cores that the process may use."""
    memory_mb: Positive
    """Memory of the machine."""
    system: str
    """Kernel and C library."""
    emulated: bool
    """Whether an emulator stood in for the processor; seconds then mean nothing."""
    versions: dict[str, str]
    """Python, this project and what it runs on, by name."""
    before: dict[str, str]
    """Frequency, temperature and throttling before the measurement, as far as the device tells."""
    after: dict[str, str]
    """The same afterwards."""


@dataclass(frozen=True)
class Noise:
    """How steady the machine was: one fixed piece of work, over and over."""

    before: Readings
    """Seconds of the fixed work before the measurement."""
    after: Readings
    """Seconds of it afterwards."""
    others: Positive
    """Cores that other processes kept busy during the measurement, on average."""
    busy: tuple[str, ...]
    """Why the machine counts as busy; empty when it was quiet."""


@dataclass(frozen=True)
class Roofline:
    """The most that this machine gives, measured on the spot."""

    threads: Count
    """Threads that worked."""
    read_gbs: Positive
    """Memory read in order, GB/s."""
    gemm_gflops: Positive
    """Float32 matrix product, GFLOP/s."""


@dataclass(frozen=True)
class Score:
    """A share with its interval."""

    share: Positive
    """What was counted, from 0 to 1."""
    low: Positive
    """Lower end of the 95 % interval."""
    high: Positive
    """Upper end."""
    n: Count
    """Of how many."""


@dataclass(frozen=True)
class PackageFacts:
    """The file that was measured."""

    sha256: str
    """Of the whole file."""
    size: Count
    """Bytes of the file."""
    installed: Count
    """Bytes of the SDK and everything it needs, as installed."""
    family: str
    """Model family."""
    model: str
    """Name of the configuration."""
    parameters: Count
    """Weights before quantization."""
    weights: str
    """Where they come from; "random" says nothing about quality."""
    target: str
    """Device profile of the export."""
    scheme: str
    """Precision that was asked for."""
    engine: str
    """Engine that was measured."""
    schemes: dict[str, str]
    """What each component got."""
    quality: dict[str, Score]
    """What the exporter's gate measured against float32; empty for random weights."""


@dataclass(frozen=True)
class Work:
    """What one answer costs by count, whatever the machine."""

    step_bytes: Positive
    """Bytes of weights and cache that one decoding step reads."""
    prefill_flop: Positive | None = None
    """Multiplications and additions of the weights on the question; None where the engine's file does not tell."""
    step_flop: Positive | None = None
    """The same in one decoding step; without a KV cache, on all positions. None where unknown."""
    prefix_flop: Positive | None = None
    """The same on the whole prefix; None where only the question is measured."""


@dataclass(frozen=True)
class Run:
    """One setting, measured several times, each in a process of its own."""

    threads: Count
    """Compute threads."""
    cache: Literal["warm", "cold"]
    """Whether the file was in memory before."""
    unit: Literal["s", "instructions"]
    """What the numbers count."""
    positions: Count
    """Positions before the first generated token."""
    steps: Count
    """Decoding steps within `decode`."""
    stages: dict[str, Readings]
    """One number per process, by stage: the median of its passes."""
    peak_mb: Readings
    """Most memory of each process above Python with numpy; empty where instructions were counted."""


@dataclass(frozen=True)
class Resident:
    """Memory of the process at one moment."""

    seconds: Positive
    """Since it started."""
    file_mb: Positive
    """Resident pages that a file backs: the system can drop them and read them again."""
    anonymous_mb: Positive
    """Resident pages that are the process's own."""

    @property
    def total_mb(self) -> float:
        """Both."""
        return self.file_mb + self.anonymous_mb


@dataclass(frozen=True)
class Memory:
    """Memory over the life of one process that loads, listens and answers."""

    threads: Count
    """Compute threads."""
    interpreter: Resident
    """Python with numpy, before the SDK is imported."""
    steady: Resident
    """At rest after two answers."""
    peak: Resident
    """The moment of most memory among `timeline`."""
    highest_mb: Positive
    """The system's own high-water mark, which no sample can miss."""
    marks: dict[str, Positive]
    """When each stage ended, in seconds."""
    timeline: tuple[Resident, ...]
    """Samples over time."""


@dataclass(frozen=True)
class Streaming:
    """Sounds in real time through `watch`."""

    threads: Count
    """Compute threads."""
    sounds: Count
    """Sounds that were played."""
    first_token: Readings
    """Seconds from the end of a sound to the first token about it, one for each sound that was found."""
    event: Readings
    """Seconds from the end of a sound to its event."""
    share: Positive
    """Share of real time that the model needs when sound never stops."""
    core_share: Positive
    """Share of one core used over the scene."""


@dataclass(frozen=True)
class Energy:
    """Energy of the work, above that of the idle machine."""

    source: str
    """What measured it, or why nothing could."""
    joules_per_pass: Positive | None = None
    """Above idle, for one pass through the stages after loading; None when nothing could measure it."""
    idle_watts: Positive | None = None
    """Power before the work."""
    busy_watts: Positive | None = None
    """Power during the work."""
    passes: Count | None = None
    """Passes meanwhile."""


@dataclass(frozen=True)
class Side:
    """One package or one rival."""

    name: str
    """What tables call it."""
    about: str
    """What it is and does."""
    runs: tuple[Run, ...]
    """Speed by setting."""
    memory: tuple[Memory, ...]
    """Memory by number of threads."""
    package: PackageFacts | None = None
    """The file; None for what is no package."""
    work: Work | None = None
    """Counts for the roofline; None where unknown."""
    streaming: Streaming | None = None
    """Real-time behaviour; None where it was not measured or cannot be."""
    energy: Energy | None = None
    """Energy; None where it was not asked for."""


@dataclass(frozen=True)
class Result:
    """The whole of a result file."""

    made: str
    """When, ISO 8601 in UTC."""
    device: str
    """Where: "local", "ssh:…", "adb:…" or "qemu:…"."""
    environment: Environment
    """The machine."""
    noise: Noise
    """How steady it was."""
    roofline: tuple[Roofline, ...]
    """What it can give, by number of threads."""
    sides: tuple[Side, ...]
    """What was measured, in turn in one run."""
    absent: dict[str, str] | None = None
    """What was to be measured and could not, with the reason, by name."""
    schema: Annotated[int, Between(SCHEMA, SCHEMA)] = SCHEMA
    """Version of this layout."""

    def to_json(self) -> str:
        """JSON that `alm_bench.results.files` reads; None is left out."""
        return json.dumps(_without_none(dataclasses.asdict(self)), indent=1, allow_nan=False) + "\n"


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_none(item) for item in value]
    return value
