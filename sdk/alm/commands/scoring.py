"""`alm score`: how good a recording sounds, or each recording of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alm.commands.arguments import AsJson, EngineName, PackagePath, RecordingOrFolder, Threads, WindowOption
from alm.commands.folders import Compat, Output, Workers, check_ending, only_for_folders, over_folder, threads_for
from alm.commands.output import hearing, print_json, print_rows

if TYPE_CHECKING:
    from alm.models.pam import Score
    from alm.results import Row

PICTURES = (".png", ".svg", ".pdf")


def score(
    package: PackagePath,
    recording: RecordingOrFolder,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the score over time: a .png, .svg or .pdf.", show_default=False)
    ] = None,
    window: WindowOption = "all",
    compat: Compat = False,
    output: Output = None,
    workers: Workers = None,
    engine: EngineName = None,
    threads: Threads = None,
    json: AsJson = False,
) -> None:
    """Say how good a recording sounds, from 0 to 1, or each recording of a folder.

    A recording longer than the model's window also has a score per window.
    """
    if plot is not None:
        check_ending(plot, PICTURES, "--plot")
    from alm import load
    from alm.models import Pam

    path = Path(recording)
    with load(package, Pam, engine=engine, threads=threads_for(path, threads)) as model:
        if path.is_dir():
            if plot is not None:
                raise typer.BadParameter("it is for one recording", param_hint="--plot")
            over_folder(
                path,
                lambda source: _row(model.score(source, window=window, compat=compat)),
                lambda row: "  ".join(f"{value:.3f}" for name, value in row.items() if name != "windows"),
                run={"score": model.package.fingerprint, "window": window, "compat": compat},
                output=output,
                json=json,
                workers=workers,
            )
            return
        only_for_folders(output, workers)
        with hearing(recording, quiet=json) as progress:
            result = model.score(path, window=window, compat=compat, progress=progress)
    if json:
        print_json({"package": str(package), "recording": recording, "value": result.value} | vars(result))
    else:
        _print(result)
    # Last, so that a picture that cannot be written costs no score.
    if plot is not None:
        from alm.plotting import plot_score

        plot_score(result, plot, title=path.name)


def _print(result: Score) -> None:
    print_rows([(f"{value:.3f}", name) for name, value in result.values.items()])
    if len(result.spans) > 1:
        columns = zip(result.spans, *result.curve.values(), strict=True)
        rows = [(f"{s:.1f}", f"{e:.1f}", *(f"{value:.3f}" for value in values)) for (s, e), *values in columns]
        print_rows(rows, ("from", "to", *result.curve))


def _row(result: Score) -> Row:
    return {**result.values, "windows": len(result.spans)}
