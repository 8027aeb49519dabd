"""The `alm-bench` command. Exit status: 0 done, 1 the work failed (one line on stderr says why), 2 wrong usage."""

from __future__ import annotations

import typer

from alm.commands.ending import run as run_app
from alm_bench.commands import comparing, reporting, rivals, running
from alm_bench.quality.command import quality
from alm_bench.quality.judging_command import judgements
from alm_bench.quality.scoring_command import score

app = typer.Typer(
    name="alm-bench",
    help="Measure packages: speed, memory, energy and quality.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("run")(running.run)
app.command("compare")(comparing.compare)
app.command("rivals")(rivals.rivals)
app.command("report")(reporting.report)
app.command("quality")(quality)
app.command("judgements")(judgements)
app.command("score")(score)


def main() -> None:
    """Entry point."""
    run_app(app, "alm-bench")
