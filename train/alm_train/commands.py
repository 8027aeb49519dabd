"""The `alm-train` command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from alm.commands.ending import run
from alm.errors import DependencyError

if TYPE_CHECKING:
    from alm_train.data.library import Progress as Counted
    from alm_train.loop import Metrics, Report

app = typer.Typer(
    help="Train small weights by a recipe, and measure them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
errors = Console(stderr=True)

Recipe = Annotated[Path, typer.Argument(metavar="RECIPE", help="A YAML file.", exists=True, dir_okay=False)]
Data = Annotated[Path, typer.Option(help="Folder that holds the corpora.", exists=True, file_okay=False)]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder of this run; given again, it goes on.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")]


@app.command()
def mellow(recipe: Recipe, data: Data, output: Output, as_json: AsJson = False) -> None:
    """Train a small Mellow by a recipe, score it on held-out clips and write its weights to OUTPUT/weights.

    A run that was stopped goes on where it stopped when it is started again with the same arguments.
    """
    _require_torch()
    from alm_train.answering.evaluate import as_json as plain
    from alm_train.answering.evaluate import as_table
    from alm_train.answering.pipeline import run_mellow
    from alm_train.answering.recipe import read_mellow_recipe

    results = run_mellow(read_mellow_recipe(recipe), data, output, Bars())
    if as_json:
        print(json.dumps(plain(results), indent=1))
        return
    console = Console()
    for corpus, scores in results.items():
        console.print(as_table(corpus, scores))
    _print_places(output)


@app.command()
def clap(recipe: Recipe, data: Data, output: Output, as_json: AsJson = False) -> None:
    """Train a small CLAP by a recipe, score it on held-out clips and write its weights to OUTPUT/weights.

    A run that was stopped goes on where it stopped when it is started again with the same arguments.
    """
    _require_torch()
    from alm_train.contrastive.pipeline import run_clap
    from alm_train.contrastive.recipe import read_clap_recipe

    results = run_clap(read_clap_recipe(recipe), data, output, Bars())
    if as_json:
        print(results.to_json(), end="")
        return
    _print_scores(output)
    _print_places(output)


@app.command()
def captioner(recipe: Recipe, data: Data, output: Output, as_json: AsJson = False) -> None:
    """Train a captioner by a recipe, caption held-out clips and write its weights to OUTPUT/weights.

    A run that was stopped goes on where it stopped when it is started again with the same arguments.
    """
    _require_torch()
    from alm_train.captioner.pipeline import run_captioner
    from alm_train.captioner.recipe import read_captioner_recipe

    results = run_captioner(read_captioner_recipe(recipe), data, output, Bars())
    if as_json:
        print(results.to_json(), end="")
        return
    for group, captioned in results.captions.items():
        for label, caption in captioned.examples:
            print(f"{group}, {label}: {caption}")
        named, chance = captioned.named, captioned.named_by_chance
        print(f"{group}, named: {named.right} of {named.total}; shuffled: {chance.right}")
    _print_places(output)


@app.command()
def difference(recipe: Recipe, data: Data, output: Output, as_json: AsJson = False) -> None:
    """Train a small ADIFF, ask it about pairs of held-out clips and write its weights to OUTPUT/weights.

    A run that was stopped goes on where it stopped when it is started again with the same arguments.
    """
    _require_torch()
    from alm_train.difference.pipeline import run_difference
    from alm_train.difference.recipe import read_difference_recipe

    results = run_difference(read_difference_recipe(recipe), data, output, Bars())
    if as_json:
        print(results.to_json(), end="")
        return
    _print_scores(output)
    _print_places(output)


@app.command()
def adaptation(
    data: Data,
    weights: Annotated[str, typer.Option(help="CLAP weights, as `alm-export clap` takes them.")] = "reference",
    seeds: Annotated[int, typer.Option(min=1, help="Draws of clips and views.")] = 5,
    clips: Annotated[int, typer.Option(min=1, help="Clips of each corpus and seed.")] = 100,
    views: Annotated[int, typer.Option(min=1, help="Changed views of each clip.")] = 16,
    as_json: AsJson = False,
) -> None:
    """Measure what test-time adaptation changes on urban sounds and emotional voices."""
    _require_torch()
    from alm_train.adaptation_report import as_json as plain
    from alm_train.adaptation_report import as_markdown, measure_adaptation

    changes = measure_adaptation(weights, data, seeds, clips, views, Bars())
    print(plain(changes) if as_json else as_markdown(changes))


def _print_scores(output: Path) -> None:
    """The tables of the card that the run has written."""
    card = (output / "weights" / "README.md").read_text(encoding="utf-8")
    Console().print(Markdown(card[card.index("## Held-out recordings") : card.index("## Limits")]))


def _print_places(output: Path) -> None:
    print(f"weights: {output / 'weights'}; log: {output / 'log.jsonl'}")


def _require_torch() -> None:
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        raise DependencyError(f"{error.name} is missing; training needs: pip install 'alm-edge[train]'") from None


class Bars:
    """Progress bars on the standard error stream."""

    @contextmanager
    def bar(self, name: str) -> Iterator[Counted]:
        """A bar over counted items."""
        with _progress() as progress:
            task = progress.add_task(name, total=None, metrics="")
            yield lambda done, total: progress.update(task, completed=done, total=total)

    @contextmanager
    def stage(self, name: str) -> Iterator[Report]:
        """A bar over steps, with the loss and the newest validation beside it."""
        kept: Metrics = {}

        def report(stage: str, done: int, total: int, metrics: Metrics) -> None:
            kept.update({key: value for key, value in metrics.items() if key == "loss" or "_" in key})
            shown = "  ".join(f"{key} {value:.3f}" for key, value in kept.items())
            progress.update(task, completed=done, total=total, metrics=shown)

        with _progress() as progress:
            task = progress.add_task(name, total=None, metrics="")
            yield report


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[metrics]}"),
        console=errors,
    )


def main() -> None:
    """Entry point."""
    run(app, "alm-train", interrupted="stopped; start the same command again to go on")
