"""`alm verify`: run the golden self-test of a package on this machine."""

from __future__ import annotations

from math import isfinite

from alm.commands.arguments import AsJson, PackagePath, Threads
from alm.commands.output import print_json, print_rows


def verify(package: PackagePath, threads: Threads = None, json: AsJson = False) -> None:
    """Run a package's golden self-test on this machine.

    Checks every hash, then every stage from sound to tokens. Exit status 1 names the first that differs.
    """
    from alm import verify as checks

    result = checks.verify(package, threads=threads)
    if json:
        # JSON has no infinity; a stage that returned NaN or another shape has no difference to tell.
        stages = [
            vars(s) | {"difference": s.difference if isfinite(s.difference) else None, "ok": s.ok}
            for s in result.stages
        ]
        print_json({"package": str(package), "ok": result.ok, "stages": stages})
    else:
        rows = [
            (s.stage, f"{s.difference:.3g}", f"{s.tolerance:.3g}", "ok" if s.ok else f"DIFFERS: {s.detail}")
            for s in result.stages
        ]
        print_rows(rows, header=("stage", "difference", "tolerance", "result"))
    result.check()
