"""`alm-bench quality`: what packages answer to benchmark questions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from alm.errors import DependencyError

if TYPE_CHECKING:
    from alm_bench.quality.judging import CaptionJudge
    from alm_bench.quality.run import Pool, Progress

Packages = Annotated[list[Path], typer.Argument(help="Packages to compare; differences are to the first.")]
Tasks = Annotated[str, typer.Option("--task", help="Comma-separated: entailment, mcq, caption, difference, detail.")]
Data = Annotated[Path, typer.Option(help="Folder with the task files, and below it the audio.")]
Output = Annotated[
    Path, typer.Option("-o", "--output", dir_okay=False, help="Result file; answers go beside it, and are resumed.")
]
Audio = Annotated[Path | None, typer.Option(help="Folder of the audio, if it is another one.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Clips per group of questions.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes, a model each.", show_default="one per core")]
RayAddress = Annotated[str | None, typer.Option("--ray", help="Address of a Ray cluster to work on instead.")]
ClapPackage = Annotated[Path | None, typer.Option("--clap", help="CLAP package that judges captions (MACE, FENSE).")]
Captions = Annotated[
    Path | None, typer.Option("--fluency", help="Clotho or AudioCaps captions to learn broken English from.")
]


def quality(
    packages: Packages,
    task: Tasks,
    data: Data,
    output: Output,
    audio: Audio = None,
    limit: Limit = None,
    workers: Workers = None,
    ray: RayAddress = None,
    clap: ClapPackage = None,
    fluency: Captions = None,
) -> None:
    """Ask packages the questions of task files and score them, with n and intervals, side by side."""
    need_quality()
    from alm_bench.quality.audio_files import AudioFolder
    from alm_bench.quality.baselines import baselines
    from alm_bench.quality.journal import Journal
    from alm_bench.quality.plan import make_plan
    from alm_bench.quality.report import as_json, as_table, baseline_table, warnings, write_json
    from alm_bench.quality.run import ask_package, score
    from alm_bench.quality.task_files import read_folder
    from alm_bench.quality.tasks import find_tasks

    if fluency is not None and clap is None:
        raise typer.BadParameter("--fluency takes points off MACE and FENSE, and these need --clap PACKAGE")
    pool = find_pool(workers, ray)
    tasks, folder = find_tasks(task), read_folder(data)
    plan = make_plan(folder, tasks, AudioFolder(audio or data), limit)
    with ExitStack() as stack:
        judge = None if clap is None else _judge(stack, clap, fluency)
        journal = stack.enter_context(Journal(output.with_suffix(".jsonl")))
        line = stack.enter_context(_counting())
        answered = [ask_package(path, plan, tasks, journal, pool, line(path)) for path in packages]
        rows = score(plan, answered, None if judge is None else judge.measures)
    judges = {"clap": str(clap or ""), "fluency": "" if fluency is None else f"learned from {fluency.name}"}
    without = baselines(plan.items)
    write_json(output, as_json(folder, plan, answered, rows, without, judges))
    console = wide_console()
    console.print(as_table(answered, rows))
    if without:
        console.print(baseline_table(without))
    for warning in warnings(folder, plan, answered):
        print(f"alm-bench: {warning}", file=sys.stderr)


@contextmanager
def _counting() -> Iterator[Callable[[Path], Progress]]:
    """From a package to what shows its progress, in a line of its own on stderr."""
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:

        def line(path: Path) -> Progress:
            task = bar.add_task(path.name, total=None)
            return lambda done, clips: bar.update(task, completed=done, total=clips)

        yield line


def need_quality() -> None:
    """Raise DependencyError unless the libraries are there that tasks are scored with."""
    try:
        import pydantic  # noqa: F401
        import rouge_score  # noqa: F401
        import sacrebleu  # noqa: F401
        import sklearn  # noqa: F401
    except ImportError as error:
        raise DependencyError(f"scores need {error.name}: pip install 'alm-edge[quality]'") from None


def wide_console() -> Console:
    """Tables have a column per package: where nothing tells the width of the terminal, 160 characters."""
    return Console(width=None if sys.stdout.isatty() else 160)


def find_pool(workers: int | None, ray: str | None) -> Pool:
    """What works on clips: processes here, or a cluster."""
    if ray is not None and workers is not None:
        raise typer.BadParameter("--workers and --ray exclude each other: a cluster works on all of its cores")
    from alm_bench.quality.processes import cores, on_processes
    from alm_bench.quality.ray_cluster import on_ray

    return partial(on_ray, address=ray) if ray is not None else partial(on_processes, workers=workers or cores())


def _judge(stack: ExitStack, clap: Path, fluency: Path | None) -> CaptionJudge:
    import alm
    from alm.models import Clap
    from alm_bench.quality.fluency import learn
    from alm_bench.quality.judging import CaptionJudge
    from alm_bench.quality.task_files import captions_of

    detector = None if fluency is None else learn(captions_of(fluency))
    return CaptionJudge(stack.enter_context(alm.load(clap, Clap)), detector)
