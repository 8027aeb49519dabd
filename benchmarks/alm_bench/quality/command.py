"""`alm-bench quality`: what packages answer to benchmark questions."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import TaskID

import alm
from alm.models import Clap
from alm_bench.quality.audio_files import AudioFolder
from alm_bench.quality.fluency import learn
from alm_bench.quality.items import TaskError
from alm_bench.quality.journal import Journal
from alm_bench.quality.judging import CaptionJudge
from alm_bench.quality.plan import make_plan
from alm_bench.quality.processes import cores, on_processes
from alm_bench.quality.ray_cluster import on_ray
from alm_bench.quality.report import as_json, as_table, warnings, write_json
from alm_bench.quality.run import Pool, ask_package, score
from alm_bench.quality.task_files import captions_of, read_folder
from alm_bench.quality.tasks import TASKS, find_tasks

Packages = Annotated[list[Path], typer.Argument(help="Packages to compare; differences are to the first.")]
Tasks = Annotated[str, typer.Option("--task", help=f"Comma-separated: {', '.join(TASKS)}.")]
Data = Annotated[Path, typer.Option(help="Folder with the task files, and below it the audio.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Result file; answers go beside it, and are resumed.")]
Audio = Annotated[Path | None, typer.Option(help="Folder of the audio, if it is another one.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Clips per group of questions.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes, a model each; one per core if left out.")]
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
    console = Console(width=None if sys.stdout.isatty() else 150)
    if ray is not None and workers is not None:
        raise TaskError("--workers and --ray exclude each other: a cluster works on all of its cores")
    if fluency is not None and clap is None:
        raise TaskError("--fluency takes points off MACE and FENSE, and these need --clap PACKAGE")
    tasks, folder = find_tasks(task), read_folder(data)
    plan = make_plan(folder, tasks, AudioFolder(audio or data), limit)
    count = workers or cores()
    pool: Pool = partial(on_ray, address=ray) if ray is not None else partial(on_processes, workers=count)
    with ExitStack() as stack:
        judge = None
        if clap is not None:
            detector = None if fluency is None else learn(captions_of(fluency))
            judge = CaptionJudge(stack.enter_context(alm.load(clap, Clap)), detector)
        journal = stack.enter_context(Journal(output.with_suffix(".jsonl")))
        bar = stack.enter_context(Bar(console=console, transient=True))
        lines = {path: bar.add_task(path.name, total=None) for path in packages}
        answered = []
        for path in packages:
            told = partial(_tell, bar, lines[path])
            answered.append(ask_package(path, plan, tasks, journal, pool, told))
        rows = score(plan, answered, None if judge is None else judge.measures)
    judges = {"clap": str(clap or ""), "fluency": "" if fluency is None else f"learned from {fluency.name}"}
    write_json(output, as_json(folder, plan, answered, rows, judges))
    console.print(as_table(answered, rows))
    for warning in warnings(folder, plan, answered):
        console.print(f"[yellow]{warning}[/yellow]", highlight=False)


def _tell(bar: Bar, line: TaskID, package: str, done: int, clips: int) -> None:
    bar.update(line, description=package, completed=done, total=clips)
