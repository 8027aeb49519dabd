"""`alm verify`: run the golden self-test of a package on this machine."""

from __future__ import annotations

from math import isfinite
from typing import Annotated

import typer

from alm.commands.arguments import AsJson, PackagePath, Threads
from alm.commands.output import print_json, print_rows

EachEngine = Annotated[
    str | None, typer.Option("--engine", help="One of the package's engines.", show_default="each of them")
]


def verify(package: PackagePath, engine: EachEngine = None, threads: Threads = None, json: AsJson = False) -> None:
    """Run a package's golden self-test on this machine.

    Checks every hash, then every stage from sound to tokens, on each engine the package was exported for or on the
    one named. Exit status 1 names the first stage that differs.
    """
    from alm import verify as checks

    if engine is None:
        results = checks.verify_engines(package, threads=threads)
    else:
        results = (checks.verify(package, engine=engine, threads=threads),)
    found = [(result.engine, stage) for result in results for stage in result.stages]
    if json:
        # JSON has no infinity; a stage that returned NaN or another shape has no difference to tell.
        stages = [
            {"engine": name} | vars(s) | {"difference": s.difference if isfinite(s.difference) else None, "ok": s.ok}
            for name, s in found
        ]
        print_json({"package": str(package), "ok": all(result.ok for result in results), "stages": stages})
    else:
        rows = [
            (name, s.stage, f"{s.difference:.3g}", f"{s.tolerance:.3g}", "ok" if s.ok else f"DIFFERS: {s.detail}")
            for name, s in found
        ]
        print_rows(rows, header=("engine", "stage", "difference", "tolerance", "result"))
    for result in results:
        result.check()
