"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def not_empty(text: str | None) -> str | None:
    """Wrong usage for what a shell makes of a variable that is not set: as a path it would be the folder one is in."""
    if text == "":
        raise typer.BadParameter("it is empty")
    return text


PackagePath = Annotated[Path, typer.Argument(metavar="PACKAGE", help="An .alm package.", show_default=False)]
RecordingPath = Annotated[
    str, typer.Argument(metavar="RECORDING", help="A sound file.", show_default=False, callback=not_empty)
]
RecordingOrFolder = Annotated[
    str,
    typer.Argument(
        metavar="RECORDING", help="A sound file, or a folder of them.", show_default=False, callback=not_empty
    ),
]
Folder = Annotated[
    str, typer.Argument(metavar="FOLDER", help="A folder of recordings.", show_default=False, callback=not_empty)
]
Question = Annotated[str, typer.Argument(metavar="QUESTION", help="What to ask.", show_default=False)]

MaxTokens = Annotated[int | None, typer.Option(min=1, help="Most tokens to generate.", show_default="the package's")]
Temperature = Annotated[float, typer.Option(min=0.0, help="0 is greedy; above 0 samples.")]
TopP = Annotated[float, typer.Option(min=0.0, max=1.0, help="Sample among the likeliest tokens with this mass.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Makes sampling repeatable.", show_default="random")]
Stop = Annotated[list[str] | None, typer.Option(help="End the answer before this text; may be repeated.")]
WindowOption = Annotated[
    Literal["all", "first"],
    typer.Option(help="Hear a long recording window by window, or its first window only."),
]
EngineName = Annotated[
    str | None, typer.Option("--engine", help="One of the package's engines.", show_default="its first")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of the engine.", show_default="the engine's")]
Truncate = Annotated[bool, typer.Option("--truncate", help="Cut a question that is too long.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
