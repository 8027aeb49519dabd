"""`alm embed` and `alm search`: the vectors of a folder of recordings, and the recordings that a text describes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alm.commands.arguments import AsJson, EngineName, Folder, PackagePath, Threads
from alm.commands.folders import Workers, check_ending, counting, over_folder, tell_failed
from alm.commands.output import print_json, print_rows

if TYPE_CHECKING:
    from alm.models.sound_space import SoundSpace

INDEX = ".almx"


def embed(
    package: PackagePath,
    folder: Folder,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="An index (.almx) to make or bring up to date, or .csv, .json or .jsonl."),
    ],
    remove: Annotated[
        bool, typer.Option("--remove", help="Take the folder, or a recording, out of the index instead.")
    ] = False,
    workers: Workers = None,
    engine: EngineName = None,
    json: AsJson = False,
) -> None:
    """Take the vectors of a folder's recordings, for 'alm search' or for other programs.

    An index is brought in step with the folder: what is new or changed is heard, what is gone leaves, what was
    moved is known by its content.
    """
    if remove and output.suffix != INDEX:
        raise typer.BadParameter(f"it is for an index ({INDEX})", param_hint="--remove")
    from alm import load
    from alm.models.sound_space import SoundSpace
    from alm.results import FORMATS

    check_ending(output, (INDEX, *FORMATS), "--output")
    place = Path(folder)
    with load(package, SoundSpace, engine=engine, threads=1) as model:
        if remove:
            _remove(model, place, output, json)
            return
        if output.suffix == INDEX:
            _index(model, place, output, workers, json)
            return
        over_folder(
            place,
            lambda source: {f"e{index}": float(value) for index, value in enumerate(model.hear(source).mean)},
            lambda row: "",
            run={"embed": model.package.fingerprint},
            output=output,
            json=json,
            workers=workers,
        )


def search(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="An index of 'alm embed'.", show_default=False)],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to look for.", show_default=False)],
    package: Annotated[
        Path | None, typer.Option(help="The package that made the index.", show_default="where it was then")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Recordings to show.")] = 10,
    threads: Threads = None,
    json: AsJson = False,
) -> None:
    """Find the recordings that a text describes.

    Such as: alm search sounds.almx "a dog far away"
    """
    from alm import load
    from alm.models import Clap
    from alm.search_index import SearchIndex

    opened = SearchIndex.open(index)
    with load(package or opened.package, Clap, threads=threads) as model:
        matches = model.search(opened, text, count)
    if json:
        print_json({"index": str(index), "text": text, "matches": matches})
        return
    rows = [(f"{match.likeness:.3f}", f"{match.start:.1f}", f"{match.end:.1f}", match.path) for match in matches]
    print_rows(rows, ("likeness", "from", "to", "recording"))


def _index(model: SoundSpace, folder: Path, path: Path, workers: int | None, json: bool) -> None:
    from alm.indexing import index_folder
    from alm.memory import return_large_blocks

    return_large_blocks()
    with counting(quiet=json) as progress:
        update = index_folder(model, folder, path, workers=workers, progress=progress)
    if json:
        print_json({"index": str(path)} | vars(update))
    else:
        print(f"{path}: {update.heard} heard, {update.known} known, {update.kept} as they were, {update.gone} gone")
    tell_failed(update.failed, update.heard + update.known + update.kept + len(update.failed))


def _remove(model: SoundSpace, folder: Path, path: Path, json: bool) -> None:
    from alm.indexing import remove_folder

    gone = remove_folder(model, folder, path)
    if json:
        print_json({"index": str(path), "gone": gone})
    else:
        print(f"{path}: {gone} gone")
