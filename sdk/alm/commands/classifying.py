"""`alm classify`: which of some labels fits a recording, or each recording of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alm.commands.arguments import AsJson, EngineName, PackagePath, Recording, Threads, WindowOption
from alm.commands.folders import Compat, Output, Workers, only_for_folders, over_folder, threads_for
from alm.commands.output import print_json, print_rows

if TYPE_CHECKING:
    from alm.models.clap import Classification
    from alm.results import Row


def classify(
    package: PackagePath,
    recording: Recording,
    labels: Annotated[
        list[str] | None,
        typer.Argument(metavar="[LABEL]...", help="At least two; none for those of the package.", show_default=False),
    ] = None,
    template: Annotated[
        str | None, typer.Option(help="What a label is put into.", show_default="this is a sound of {}")
    ] = None,
    window: WindowOption = "all",
    compat: Compat = False,
    output: Output = None,
    workers: Workers = None,
    engine: EngineName = None,
    threads: Threads = None,
    json: AsJson = False,
) -> None:
    """Say which labels fit a recording, or each recording of a folder.

    Such as: alm classify PACKAGE street.wav "dog bark" "rain"
    """
    from alm import load
    from alm.models import Clap

    path, named = Path(recording), labels or None
    with load(package, Clap, engine=engine, threads=threads_for(path, threads)) as model:

        def found(source: Path) -> Classification:
            return model.classify(source, named, template=template, window=window, compat=compat)

        if path.is_dir():
            run = {"classify": model.package.fingerprint, "labels": named, "template": template, "window": window}
            over_folder(
                path,
                lambda source: _row(found(source)),
                lambda row: f"{row['probability']:6.1%}  {row['label']}",
                run={**run, "compat": compat},
                output=output,
                json=json,
                workers=workers,
            )
            return
        only_for_folders(output)
        result = found(path)
    if json:
        print_json({"package": str(package), "recording": recording} | vars(result))
        return
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
