"""`alm classify`: which of some labels fits a recording, or each recording of a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from alm.commands.arguments import AsJson, EngineName, PackagePath, RecordingOrFolder, Threads, WindowOption
from alm.commands.folders import Compat, Output, Workers, only_for_folders, over_folder, threads_for
from alm.commands.output import hearing, print_json, print_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from alm.models.clap import Clap, Classification
    from alm.models.sound_space import Reached
    from alm.results import Row

Labels = Annotated[
    list[str] | None,
    typer.Argument(metavar="LABEL", help="At least two; none for those of the package.", show_default=False),
]
Template = Annotated[str | None, typer.Option(help="What a label is put into.", show_default="this is a sound of {}")]
Adapt = Annotated[
    Literal["clip", "stream"] | None,
    typer.Option(
        help="Fit the labels to the sound: anew for each window, or carried from one to the next.", show_default=False
    ),
]


@dataclass(frozen=True)
class Classifying:
    """What is asked of each recording."""

    labels: list[str] | None
    """The labels; None for those of the package."""
    template: str | None
    """What a label is put into; None for the package's."""
    window: Literal["all", "first"]
    """Whether a long recording is heard window by window, or its first window only."""
    compat: bool
    """Whether sound is read as the authors' own loader does."""
    adapt: Literal["clip", "stream"] | None
    """Whether the labels are fitted to each window anew, or carried along."""


def classify(
    package: PackagePath,
    recording: RecordingOrFolder,
    labels: Labels = None,
    template: Template = None,
    window: WindowOption = "all",
    compat: Compat = False,
    adapt: Adapt = None,
    output: Output = None,
    workers: Workers = None,
    engine: EngineName = None,
    threads: Threads = None,
    json: AsJson = False,
) -> None:
    """Say which labels fit a recording, or each recording of a folder.

    Such as: alm classify PACKAGE street.wav "dog bark" "rain". With --adapt no label is learned from and nothing of
    the model changes; each window costs nine passes of the audio encoder, and whether it helps depends on the sound.
    """
    from alm import load
    from alm.models import Clap

    path, asked = Path(recording), Classifying(labels or None, template, window, compat, adapt)
    # What is carried goes through one recording after the other, which then has all threads.
    threads = threads if adapt == "stream" else threads_for(path, threads)
    with load(package, Clap, engine=engine, threads=threads) as model:
        classified = _classifier(model, asked)
        if path.is_dir():
            if adapt == "stream":
                workers = _one_after_the_other(workers, output)
            over_folder(
                path,
                lambda source: _row(classified(source, None)),
                _line,
                run={"classify": model.package.fingerprint, **vars(asked)},
                output=output,
                json=json,
                workers=workers,
            )
            return
        only_for_folders(output, workers)
        with hearing(recording, quiet=json) as progress:
            result = classified(path, progress)
    if json:
        print_json({"package": str(package), "recording": recording} | vars(result))
    else:
        _print(result)


def _classifier(model: Clap, asked: Classifying) -> Callable[[Path, Reached | None], Classification]:
    """A function that classifies one recording after another, and carries along what --adapt stream does."""
    from alm.adaptation import AdaptationSettings, Adapter

    carried = Adapter(AdaptationSettings(carry=True)) if asked.adapt == "stream" else None

    def classified(source: Path, progress: Reached | None) -> Classification:
        return model.classify(
            source,
            asked.labels,
            template=asked.template,
            window=asked.window,
            compat=asked.compat,
            adapt=Adapter() if asked.adapt == "clip" else carried,
            progress=progress,
        )

    return classified


def _one_after_the_other(workers: int | None, output: Path | None) -> int:
    """What is carried along needs one order: a single worker, and a run from its start."""
    from alm.errors import ResultsError
    from alm.results import part_of

    if workers not in (None, 1):
        raise typer.BadParameter("--adapt stream hears one recording after the other", param_hint="--workers")
    if output is not None and (part := part_of(output)).exists():
        raise ResultsError(
            f"{part}: what that run had carried along is lost, so it cannot go on; delete it to start again"
        )
    return 1


def _print(result: Classification) -> None:
    print_rows([(f"{label.probability:6.1%}", label.label) for label in result.labels])
    if len(result.spans) > 1:
        rows = zip(result.spans, result.curve, strict=True)
        header = ("from", "to", "", "likeliest")
        print_rows([(f"{s:.1f}", f"{e:.1f}", f"{c[0].probability:6.1%}", c[0].label) for (s, e), c in rows], header)


def _row(result: Classification) -> Row:
    best = result.labels[0]
    # In one order for all recordings, so that the columns of a table are.
    each = {f"p({label.label})": label.probability for label in sorted(result.labels, key=lambda label: label.label)}
    return {"label": best.label, "probability": best.probability, **each}


def _line(row: Row) -> str:
    return f"{row['probability']:6.1%}  {row['label']}"
