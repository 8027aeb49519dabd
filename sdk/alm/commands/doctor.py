"""`alm doctor`: what this machine offers and what stands in the way."""

from __future__ import annotations

import typer

from alm.commands.arguments import AsJson
from alm.commands.output import print_json, print_rows


def doctor(json: AsJson = False) -> None:
    """Examine this machine: versions, processor, memory, engines.

    Exit status 1 when something is wrong.
    """
    from alm.doctor import examine

    findings = examine()
    if json:
        rows = [vars(finding) | {"ok": finding.ok} for finding in findings]
        print_json({"ok": all(finding.ok for finding in findings), "findings": rows})
    else:
        print_rows([(f.name, f.value, f.advice and f"! {f.advice}") for f in findings])
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)
