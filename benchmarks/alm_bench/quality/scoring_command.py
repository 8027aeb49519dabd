"""`alm-bench score`: what `alm score` does with a folder, in processes or on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alm_bench.quality.command import RayAddress, Workers, find_pool

Package = Annotated[Path, typer.Argument(help="PAM package.", show_default=False)]
Folder = Annotated[Path, typer.Argument(help="Folder of recordings.", show_default=False)]
Output = Annotated[Path, typer.Option("-o", "--output", help="Results: .csv, .json or .jsonl; a killed run goes on.")]


def score(package: Package, folder: Folder, output: Output, workers: Workers = None, ray: RayAddress = None) -> None:
    """Score every recording of a folder, on all cores or on a Ray cluster, into a file as `alm score` writes it."""
    import alm
    from alm.commands.folders import counting, tell_failed
    from alm.folder import Done, find_recordings
    from alm.models import Pam
    from alm.results import Results
    from alm_bench.quality.asking import Question, Work

    pool, recordings = find_pool(workers, ray), find_recordings(folder)
    with alm.load(package, Pam) as model:
        # As `alm score` says it: either goes on with what the other began.
        run = {"score": model.package.fingerprint, "window": "all", "compat": False}
    with Results(output, {**run, "folder": str(folder.resolve())}) as results, counting(quiet=False) as count:
        asked = (Question("score", "score"),)
        todo = {Work((str(found.path),), asked): found for found in results.missing(recordings)}
        for number, done in enumerate(pool(str(package), list(todo)), len(recordings) - len(todo) + 1):
            results.add(Done(todo[done.work], done.said.get("score"), done.failed.get("score", "")))
            count(number, len(recordings))
        results.finish()
    tell_failed(results.failed, len(recordings))
