"""`alm choose`: which of several options fits a recording, with probabilities."""

from __future__ import annotations

from typing import Annotated

import typer

from alm.commands.arguments import AsJson, EngineName, PackagePath, Question, RecordingPath, Threads, WindowOption
from alm.commands.output import hearing, print_json, print_rows


def choose(
    package: PackagePath,
    recording: RecordingPath,
    question: Question,
    options: Annotated[list[str], typer.Argument(metavar="OPTION", help="2 to 26 options.", show_default=False)],
    window: WindowOption = "all",
    engine: EngineName = None,
    threads: Threads = None,
    json: AsJson = False,
) -> None:
    """Choose among options by their likelihood.

    Such as: alm choose PACKAGE street.wav "is it raining?" yes no
    """
    from alm import load
    from alm.models import Mellow

    with load(package, Mellow, engine=engine, threads=threads) as model:
        with hearing(recording, quiet=json) as progress:
            clip = model.listen(recording, window=window, progress=progress)
        with clip:
            choice = clip.choose(question, options)
    if json:
        asked = {
            "package": str(package),
            "recordings": (recording,),
            "question": question,
            "options": options,
        }
        print_json(asked | vars(choice))
        return
    ranked = sorted(zip(choice.probabilities, options, strict=True), key=lambda pair: -pair[0])
    print_rows([(f"{probability:6.1%}", option) for probability, option in ranked])
