"""The `alm` command. Exit status: 0 done, 1 the work failed (one line on stderr says why), 2 wrong usage."""

from __future__ import annotations

import typer

from alm.commands import (
    asking,
    captioning,
    choosing,
    classifying,
    doctor,
    embedding,
    inspecting,
    scoring,
    verifying,
    watching,
)
from alm.commands.ending import run

app = typer.Typer(
    name="alm",
    help="Ask questions about sound, offline.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",  # which fills the lines of a paragraph; the default keeps their ends
    pretty_exceptions_enable=False,
)
app.command("ask")(asking.ask)
app.command("compare")(asking.compare)
app.command("choose")(choosing.choose)
app.command("caption")(captioning.caption)
app.command("watch")(watching.watch)
app.command("classify")(classifying.classify)
app.command("score")(scoring.score)
app.command("embed")(embedding.embed)
app.command("search")(embedding.search)
app.command("inspect")(inspecting.inspect)
app.command("verify")(verifying.verify)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Entry point."""
    run(app, "alm")
