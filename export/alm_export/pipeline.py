"""`alm-export` from start to end: weights, graphs, parity, quality, self-test, package."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import alm
from alm.errors import ExportError
from alm.models.mellow import Mellow as PackagedMellow
from alm.package import GOLDEN, GoldenInfo, Manifest, Variant, write_package
from alm.prompt import PromptTokenizer
from alm.verify import Verification, verify_model
from alm_export.card import model_card
from alm_export.components import Components, build_components, merged_entries
from alm_export.describe import describe, prompt_layout
from alm_export.golden import Golden, golden_from_package, golden_from_torch, merged_golden
from alm_export.targets import Ladders, Target, own_parts
from alm_quantize.gate import Assignment, Trial, search
from alm_quantize.probes import Probe, bundled_probes, folder_probes
from alm_quantize.quality import Answered, answer_in_float, compare
from alm_train.checkpoints.weights import Weights, load_weights

Report = Callable[[str, int, int], None]
"""Called as (stage, done, total)."""

STAGES = {
    "weights": "loading the weights",
    "float": "asking PyTorch float32",
    "build": "building the graphs",
    "quality": "comparing answers",
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
    """Largest share of next-token decisions that may differ from float32."""
    recordings: Path | None = None
    """The user's own recordings, asked about beside the bundled clips."""
    offline: bool = False
    """Whether downloading is forbidden."""


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
    trials: tuple[Trial, ...]
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


def export(request: Request, report: Report = lambda stage, done, total: None) -> Exported:
    """Export one package. Nothing appears at `request.output` unless everything succeeded.

    Raises CheckpointError, ExportError, QualityError, ParityError or PackageError.
    """
    parent = request.output.parent
    if not parent.is_dir():
        raise ExportError(f"the folder {parent} does not exist; create it or choose another --output")
    report("weights", 0, 1)
    weights = load_weights(
        request.weights,
        offline=request.offline,
        progress=lambda done, total: report("weights", done, total or 0),
    )
    report("weights", 1, 1)
    try:
        # Beside the output: that disk must have room anyway, while /tmp is memory on many small machines.
        with tempfile.TemporaryDirectory(prefix=".alm-export-", dir=parent) as folder:
            return _Export(request, weights, Path(folder), report).run()
    except OSError as error:
        raise ExportError(
            f"cannot write below {parent}: {error}; free some space or choose another --output"
        ) from error


class _Export:
    """One export in progress, in a folder of its own."""

    def __init__(self, request: Request, weights: Weights, folder: Path, report: Report) -> None:
        self.request, self.weights, self.folder, self.report = request, weights, folder, report
        frontend = weights.model.config.encoder.frontend
        self.probes = bundled_probes(frontend.sample_rate, frontend.samples)
        if request.recordings is not None:
            self.probes += folder_probes(request.recordings, frontend.sample_rate, frontend.samples)
        self.reference = self._golden_from_torch(self.probes[0])
        self.draft_path = folder / "draft.alm"
        self.answered: list[Answered] = []

    def run(self) -> Exported:
        made: dict[str, Made] = {}
        # Other engines leave parts to onnxruntime; where it is among them, they take those parts as it has them.
        for engine in sorted(self.request.ladders, key=lambda engine: engine != "onnxruntime"):
            ladders = dict(self.request.ladders[engine])
            if "onnxruntime" in made:
                chosen = made["onnxruntime"].trials[-1].schemes if made["onnxruntime"].trials else {}
                ladders |= {part: (chosen[part],) for part in chosen if part not in own_parts(engine)}
            made[engine] = self._make(engine, ladders)
        made = {engine: made[engine] for engine in self.request.ladders}
        return Exported(self.request.output, self._finish(made), made)

    def _make(self, engine: str, ladders: Ladders) -> Made:
        draft, trials = self._search(engine, ladders)
        with alm.load(self.draft_path) as package:
            parity = verify_model(package)
            golden = golden_from_package(package, self.reference)
        if {component.scheme for component in draft.components.components.values()} == {"fp32"}:
            parity.check()
        return Made(draft, tuple(trials), parity, golden)

    def _search(self, engine: str, ladders: Ladders) -> tuple[Draft, list[Trial]]:
        """The draft that the gate accepts, and the trials on the way; random weights are not measured."""
        if self.weights.source == "random":
            return self._draft(engine, {part: ladder[0] for part, ladder in ladders.items()}), []
        drafts: list[Draft] = []

        def measure(schemes: Assignment) -> Trial:
            drafts.append(self._draft(engine, schemes))
            with alm.load(self.draft_path) as package:
                if not self.answered:
                    progress = self._progress("float")
                    self.answered = answer_in_float(self.weights.model, package, self.probes, progress)
                return self._measure(package, schemes, self.answered)

        trials = search(ladders, measure, self.request.budget)
        return drafts[-1], trials

    def _measure(self, package: PackagedMellow, schemes: Assignment, answered: list[Answered]) -> Trial:
        whole = compare(package, answered, progress=self._progress("quality"))
        alone = {
            part: compare(package, answered, component=part, model=self.weights.model)
            for part in ("audio_encoder", "decoder")
        }
        return Trial(schemes, whole, alone)

    def _draft(self, engine: str, schemes: Assignment) -> Draft:
        self.report("build", 0, 1)
        folder = self.folder / engine
        folder.mkdir(exist_ok=True)
        components = build_components(self.weights, schemes, engine, folder)
        target, tolerances = self.request.target.name, self.reference.tolerances
        draft = Draft(components, describe(self.weights, target, self.request.scheme, components, tolerances))
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
            "tokenizer.json": self.weights.tokenizer.encode(),
            GOLDEN: golden.to_bytes(),
            "README.md": model_card(manifest).encode(),
        }
        return write_package(path, manifest, entries)

    def _golden_from_torch(self, probe: Probe) -> Golden:
        config = self.weights.model.config
        tokenizer = PromptTokenizer(self.weights.tokenizer.encode(), prompt_layout(config), config.decoder.vocabulary)
        return golden_from_torch(self.weights.model, probe, tokenizer.prompt(probe.question))

    def _quality(self, made: Mapping[str, Made]) -> dict[str, Any]:
        first, *others = made
        if not made[first].trials:
            return {"not_measured": "Not measured: random weights have no quality to lose."}
        quality = {
            "clips": len({probe.clip for probe in self.probes}),
            "questions": len(self.probes),
            "budget": self.request.budget,
            **_scores(made[first].trials),
        }
        return quality | ({"variants": {engine: _scores(made[engine].trials) for engine in others}} if others else {})

    def _progress(self, stage: str) -> Callable[[int, int], None]:
        return lambda done, total: self.report(stage, done, total)


def _scores(trials: Sequence[Trial]) -> dict[str, Any]:
    final = trials[-1]
    return {
        "whole": final.whole.to_dict(),
        "alone": {part: quality.to_dict() for part, quality in final.alone.items()},
        "tried": [{"schemes": dict(t.schemes), "loss": round(t.loss, 4)} for t in trials],
    }


def _variant(made: Made) -> Variant:
    return Variant(dict(made.draft.manifest.components), GoldenInfo(dict(made.golden.tolerances)))
