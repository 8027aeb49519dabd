"""`alm-export` from start to end: weights, graphs, parity, quality, self-test, package."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import alm
from alm.errors import ExportError
from alm.models import Model
from alm.package import GOLDEN, GoldenInfo, Manifest, Variant, write_package
from alm.verify import Verification, verify_model
from alm_export.card import model_card
from alm_export.components import Components, merged_entries
from alm_export.families import find_exporter
from alm_export.genai import genai_entries
from alm_export.golden import Golden, merged_golden
from alm_export.targets import OWN_SCHEMES, Ladders, Target
from alm_quantize.gate import Assignment, Attempt, search
from alm_train.checkpoints.weights import Weights, load_weights

Report = Callable[[str, int, int], None]
"""Called as (stage, done, total)."""

STAGES = {
    "weights": "loading the weights",
    "float": "running PyTorch float32",
    "build": "building the graphs",
    "quality": "comparing with it",
    "package": "writing the package",
    "verify": "verifying the package",
}


@dataclass(frozen=True)
class Request:
    """What is to be exported."""

    target: Target
    """Device profile."""
    scheme: str
    """Precision or scheme as asked for; names the package."""
    ladders: Mapping[str, Ladders]
    """By engine, the package's first one first: schemes per part, from cheapest to dearest."""
    weights: str
    """Name or path of the weights."""
    output: Path
    """Where the package goes."""
    budget: float
    """How much may differ from float32: for Mellow the largest share of next-token decisions."""
    recordings: Path | None = None
    """The user's own recordings, asked about beside the bundled clips."""
    offline: bool = False
    """Whether downloading is forbidden."""
    family: str = "mellow"
    """Model family, as `alm_export.families` lists them."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options that only some families have, by name."""


@dataclass(frozen=True)
class Draft:
    """One assignment of schemes as a package whose self-test is PyTorch's: verifying it measures parity."""

    components: Components
    """Graphs and weights."""
    manifest: Manifest
    """Complete but for quality and the final self-test."""


@dataclass(frozen=True)
class Made:
    """The model on one engine."""

    draft: Draft
    """The assignment that the gate accepted."""
    trials: tuple[Attempt, ...]
    """Assignments the quality gate tried; empty where there was nothing to compare."""
    parity: Verification
    """The draft held against PyTorch float32, stage by stage. Quantized stages differ, by this much."""
    golden: Golden
    """What the draft computes on this machine."""


@dataclass(frozen=True)
class Exported:
    """What came out."""

    path: Path
    """The package."""
    manifest: Manifest
    """Its manifest."""
    made: Mapping[str, Made]
    """By engine, the package's first one first."""
    example: str
    """A command to try next."""


def export(request: Request, report: Report = lambda stage, done, total: None) -> Exported:
    """Export one package. Nothing appears at `request.output` unless everything succeeded.

    Raises CheckpointError, ExportError, QualityError, ParityError or PackageError.
    """
    exporter, parent = find_exporter(request.family), request.output.parent
    if request.output.is_dir():
        raise ExportError(f"{request.output} is a folder, expected a file to write; choose another --output")
    if not parent.is_dir():
        raise ExportError(f"the folder {parent} does not exist; create it or choose another --output")
    report("weights", 0, 1)
    weights = load_weights(
        request.weights,
        *exporter.weights_families,
        offline=request.offline,
        progress=lambda done, total: report("weights", done, total or 0),
    )
    report("weights", 1, 1)
    try:
        # Beside the output: that disk must have room anyway, while /tmp is memory on many small machines.
        with tempfile.TemporaryDirectory(prefix=".alm-export-", dir=parent) as folder:
            return exporter(request, weights, Path(folder), report).run()
    except OSError as error:
        raise ExportError(
            f"cannot write below {parent}: {error}; free some space or choose another --output"
        ) from error


class Exporter(ABC):
    """One export in progress, in a folder of its own. A family says what is its own: parts, self-test and quality."""

    weights_families: ClassVar[tuple[str, ...]]
    """Whose weights it is made from; the others are versions of the first."""
    precision: ClassVar[str]
    """Precision unless another is asked for."""
    options: ClassVar[tuple[str, ...]] = ()
    """Options of the command that only some families have, and this one does."""
    parts: ClassVar[Mapping[str, str]]
    """What is assigned a scheme, and under which name a target's ladders have it."""
    summary: ClassVar[str]
    """What the model does, for the card."""
    task: ClassVar[str]
    """The card's `pipeline_tag`."""
    example: ClassVar[str]
    """A command to try next, PACKAGE in place of the package."""

    reference: Golden
    """The self-test as PyTorch float32 computes it; a family sets it when it begins."""

    def __init__(self, request: Request, weights: Weights, folder: Path, report: Report) -> None:
        """Take an export; a family adds what it is held against."""
        self.request, self.weights, self.folder, self.report = request, weights, folder, report
        self.draft_path = folder / "draft.alm"

    @classmethod
    def ladders(cls, of_target: Ladders) -> Ladders:
        """The ladders of the family's parts, from a target's."""
        return {part: of_target[role] for part, role in cls.parts.items()}

    @abstractmethod
    def build(self, schemes: Assignment, engine: str, folder: Path) -> Components:
        """Graphs and weights for an engine, what is large below `folder`."""

    @abstractmethod
    def describe(self, components: Components) -> Manifest:
        """The manifest, its quality unmeasured and its self-test PyTorch's."""

    @abstractmethod
    def replay(self, package: Model) -> Golden:
        """The self-test as a package computes it on this machine."""

    @abstractmethod
    def measure(self, package: Model, schemes: Assignment) -> Attempt:
        """Hold a draft against PyTorch float32."""

    @abstractmethod
    def scores(self, trials: Sequence[Attempt]) -> dict[str, Any]:
        """What the last of the trials measured, for the manifest's `quality`."""

    @abstractmethod
    def material(self) -> dict[str, Any]:
        """On what it was measured, for the manifest's `quality`."""

    def entries(self) -> dict[str, bytes | Path]:
        """Entries beside components, self-test and card."""
        return {"tokenizer.json": self.weights.tokenizer.encode()}

    def run(self) -> Exported:
        """Make the model on each engine, and the package of all."""
        made: dict[str, Made] = {}
        # Other engines leave parts to onnxruntime; where it is among them, they take those parts as it has them.
        for engine in sorted(self.request.ladders, key=lambda engine: engine != "onnxruntime"):
            ladders = dict(self.request.ladders[engine])
            if "onnxruntime" in made:
                chosen = made["onnxruntime"].trials[-1].schemes if made["onnxruntime"].trials else {}
                ladders |= {part: (chosen[part],) for part in chosen if part not in OWN_SCHEMES.get(engine, {})}
            made[engine] = self._make(engine, ladders)
        made = {engine: made[engine] for engine in self.request.ladders}
        package = str(self.request.output)
        return Exported(self.request.output, self._finish(made), made, self.example.replace("PACKAGE", package))

    def _make(self, engine: str, ladders: Ladders) -> Made:
        draft, trials = self._search(engine, ladders)
        with alm.load(self.draft_path) as package:
            parity = verify_model(package)
            golden = self.replay(package)
        if {component.scheme for component in draft.components.components.values()} == {"fp32"}:
            parity.check()
        return Made(draft, tuple(trials), parity, golden)

    def _search(self, engine: str, ladders: Ladders) -> tuple[Draft, list[Attempt]]:
        """The draft that the gate accepts, and the trials on the way; random weights are not measured."""
        if self.weights.source == "random":
            return self._draft(engine, {part: ladder[0] for part, ladder in ladders.items()}), []
        drafts: list[Draft] = []

        def measure(schemes: Assignment) -> Attempt:
            drafts.append(self._draft(engine, schemes))
            with alm.load(self.draft_path) as package:
                return self.measure(package, schemes)

        trials = search(ladders, measure, self.request.budget)
        return drafts[-1], trials

    def _draft(self, engine: str, schemes: Assignment) -> Draft:
        self.report("build", 0, 1)
        folder = self.folder / engine
        folder.mkdir(exist_ok=True)
        components = self.build(schemes, engine, folder)
        draft = Draft(components, self.describe(components))
        self._write(self.draft_path, draft.manifest, components.entries, self.reference)
        self.report("build", 1, 1)
        return draft

    def _finish(self, made: Mapping[str, Made]) -> Manifest:
        """Write and verify the package in this export's folder, then move it to its place."""
        finished = self.folder / "finished.alm"
        self.report("package", 0, 1)
        first, *others = made
        manifest = replace(
            made[first].draft.manifest,
            quality=self._quality(made),
            golden=GoldenInfo(dict(made[first].golden.tolerances)),
            variants={engine: _variant(made[engine]) for engine in others},
        )
        entries = merged_entries([one.draft.components for one in made.values()])
        if self.request.options.get("genai"):
            entries |= genai_entries(manifest, entries)
        golden = merged_golden({engine: one.golden for engine, one in made.items()})
        manifest = self._write(finished, manifest, entries, golden)
        self.report("package", 1, 1)
        for done, engine in enumerate(made):
            self.report("verify", done, len(made))
            with alm.load(finished, engine=engine) as package:
                verify_model(package).check()
        finished.replace(self.request.output)
        self.report("verify", len(made), len(made))
        return manifest

    def _write(self, path: Path, manifest: Manifest, parts: Mapping[str, bytes | Path], golden: Golden) -> Manifest:
        entries = {
            **parts,
            **self.entries(),
            GOLDEN: golden.to_bytes(),
            "README.md": model_card(manifest, self.summary, self.task, self.example).encode(),
        }
        return write_package(path, manifest, entries)

    def _quality(self, made: Mapping[str, Made]) -> dict[str, Any]:
        first, *others = made
        if not made[first].trials:
            return {"not_measured": "Not measured: random weights have no quality to lose."}
        quality = self.material() | {"budget": self.request.budget} | self.scores(made[first].trials)
        if others:
            quality["variants"] = {engine: self.scores(made[engine].trials) for engine in others}
        return quality

    def progress(self, stage: str) -> Callable[[int, int], None]:
        """Reports a stage's progress."""
        return lambda done, total: self.report(stage, done, total)


def _variant(made: Made) -> Variant:
    return Variant(dict(made.draft.manifest.components), GoldenInfo(dict(made.golden.tolerances)))
