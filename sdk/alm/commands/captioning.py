"""`alm caption`: a recording in a sentence."""

from __future__ import annotations

from typing import Annotated

import typer

from alm.commands.arguments import AsJson, EngineName, MaxTokens, PackagePath, Recording, Threads, WindowOption
from alm.commands.folders import Compat
from alm.commands.output import hearing, print_answer, print_json, printable

Beams = Annotated[int, typer.Option(min=1, max=64, help="Captions held against each other; 1 is greedy and streams.")]


def caption(
    package: PackagePath,
    recording: Recording,
    beams: Beams = 5,
    max_tokens: MaxTokens = None,
    window: WindowOption = "all",
    compat: Compat = False,
    engine: EngineName = None,
    threads: Threads = None,
    json: AsJson = False,
) -> None:
    """Describe a recording.

    One longer than the model's window is described window by window. With --compat it is read and written down as the
    authors of the model do.
    """
    from alm import load
    from alm.models import ClapCap

    asked = {"package": str(package), "recording": recording}
    with load(package, ClapCap, engine=engine, threads=threads) as model:
        if compat:
            answer = model.caption(recording, window=window, compat=True, beams=beams, max_tokens=max_tokens)
            print_json(asked | vars(answer)) if json else print(printable(answer.text))
            return
        with hearing(recording, quiet=json) as progress:
            clip = model.listen(recording, window=window, progress=progress)
        with clip, clip.stream_caption(beams=beams, max_tokens=max_tokens) as stream:
            if json:
                print_json(asked | vars(stream.finish()))
            else:
                print_answer(stream, clip.spans)
