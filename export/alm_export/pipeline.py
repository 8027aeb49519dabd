"""`alm-export` from start to end: weights, graphs, parity, quality, self-test, package."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import alm
from alm.errors import ExportError
from alm.models.mellow import Mellow as PackagedMellow
from alm.package import GOLDEN, GoldenInfo, Manifest, write_package
from alm.prompt import PromptTokenizer
from alm.verify import Verification, verify_model
from alm_export.card import model_card
from alm_export.components import Components, build_components
from alm_export.describe import describe, prompt_layout
from alm_export.golden import Golden, golden_from_package, golden_from_torch
from alm_export.targets import Ladders, Target
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
    engine: str
    """Engine of the decoder."""
    scheme: str
    """Precision or scheme as asked for; names the package."""
    ladders: Ladders
    """Schemes per part, from cheapest to dearest."""
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
class Exported:
    """What came out."""

    path: Path
    """The package."""
    manifest: Manifest
    """Its manifest."""
    parity: Verification
    """The draft held against PyTorch float32, stage by stage. Quantized stages differ, by this much."""
    trials: tuple[Trial, ...]
    """Assignments the quality gate tried; empty where there was nothing to compare."""


@dataclass(frozen=True)
class Draft:
    """One assignment of schemes as a package whose self-test is PyTorch's: verifying it measures parity."""

    components: Components
    """Graphs and weights."""
    manifest: Manifest
    """Complete but for quality and the final self-test."""


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

    def run(self) -> Exported:
        draft, trials = self._search()
        with alm.load(self.draft_path) as package:
            parity = verify_model(package)
            golden = golden_from_package(package, self.reference)
        if {component.scheme for component in draft.components.components.values()} == {"fp32"}:
            parity.check()
        manifest = replace(draft.manifest, quality=self._quality(trials), golden=GoldenInfo(dict(golden.tolerances)))
        manifest = self._finish(Draft(draft.components, manifest), golden)
        return Exported(self.request.output, manifest, parity, tuple(trials))

    def _search(self) -> tuple[Draft, list[Trial]]:
        """The draft that the gate accepts, and the trials on the way; random weights are not measured."""
        if self.weights.source == "random":
            return self._draft({part: ladder[0] for part, ladder in self.request.ladders.items()}), []
        drafts: list[Draft] = []
        answered: list[Answered] = []

        def measure(schemes: Assignment) -> Trial:
            drafts.append(self._draft(schemes))
            with alm.load(self.draft_path) as package:
                if not answered:
                    progress = self._progress("float")
                    answered.extend(answer_in_float(self.weights.model, package, self.probes, progress))
                return self._measure(package, schemes, answered)

        trials = search(self.request.ladders, measure, self.request.budget)
        return drafts[-1], trials

    def _measure(self, package: PackagedMellow, schemes: Assignment, answered: list[Answered]) -> Trial:
        whole = compare(package, answered, progress=self._progress("quality"))
        alone = {
            part: compare(package, answered, component=part, model=self.weights.model)
            for part in ("audio_encoder", "decoder")
        }
        return Trial(schemes, whole, alone)

    def _draft(self, schemes: Assignment) -> Draft:
        self.report("build", 0, 1)
        target = self.request.target
        components = build_components(self.weights, schemes, self.request.engine, self.folder)
        manifest = describe(self.weights, target.name, self.request.scheme, components, self.reference.tolerances)
        draft = Draft(components, manifest)
        self._write(self.draft_path, draft, self.reference)
        self.report("build", 1, 1)
        return draft

    def _finish(self, draft: Draft, golden: Golden) -> Manifest:
        """Write and verify the package in this export's folder, then move it to its place."""
        finished = self.folder / "finished.alm"
        self.report("package", 0, 1)
        manifest = self._write(finished, draft, golden)
        self.report("package", 1, 1)
        self.report("verify", 0, 1)
        with alm.load(finished) as package:
            verify_model(package).check()
        finished.replace(self.request.output)
        self.report("verify", 1, 1)
        return manifest

    def _write(self, path: Path, draft: Draft, golden: Golden) -> Manifest:
        entries = {
            **draft.components.entries,
            "tokenizer.json": self.weights.tokenizer.encode(),
            GOLDEN: golden.to_bytes(),
            "README.md": model_card(draft.manifest).encode(),
        }
        return write_package(path, draft.manifest, entries)

    def _golden_from_torch(self, probe: Probe) -> Golden:
        config = self.weights.model.config
        tokenizer = PromptTokenizer(self.weights.tokenizer.encode(), prompt_layout(config), config.decoder.vocabulary)
        return golden_from_torch(self.weights.model, probe, tokenizer.prompt(probe.question))

    def _quality(self, trials: list[Trial]) -> dict[str, Any]:
        if not trials:
            return {"not_measured": "Not measured: random weights have no quality to lose."}
        final = trials[-1]
        return {
            "clips": len({probe.clip for probe in self.probes}),
            "questions": len(self.probes),
            "budget": self.request.budget,
            "whole": final.whole.to_dict(),
            "alone": {part: quality.to_dict() for part, quality in final.alone.items()},
            "tried": [{"schemes": dict(t.schemes), "loss": round(t.loss, 4)} for t in trials],
        }

    def _progress(self, stage: str) -> Callable[[int, int], None]:
        return lambda done, total: self.report(stage, done, total)
