"""`alm caption`: a recording in a sentence, or each recording of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alm.commands.arguments import AsJson, EngineName, MaxTokens, PackagePath, RecordingOrFolder, Threads, WindowOption
from alm.commands.folders import Compat, Output, answers_over_folder, only_for_folders
from alm.commands.output import hearing, print_answer, print_json, printable

Beams = Annotated[int, typer.Option(min=1, max=64, help="Captions held against each other; 1 is greedy and streams.")]


def caption(
    package: PackagePath,
    recording: RecordingOrFolder,
    beams: Beams = 5,
    max_tokens: MaxTokens = None,
    window: WindowOption = "all",
    compat: Compat = False,
    engine: EngineName = None,
    threads: Threads = None,
    output: Output = None,
    json: AsJson = False,
) -> None:
    """Describe a recording, or each recording of a folder.

    One longer than the model's window is described window by window. With --compat it is read and written down as the
    authors of the model do.
    """
    from alm import load
    from alm.models import ClapCap

    path, asked = Path(recording), {"package": str(package), "recording": recording}
    with load(package, ClapCap, engine=engine, threads=threads) as model:
        if path.is_dir():
            run = {"caption": model.package.fingerprint, "beams": beams, "max_tokens": max_tokens, "window": window}
            answers_over_folder(
                path,
                lambda source: model.caption(source, window=window, compat=compat, beams=beams, max_tokens=max_tokens),
                run={**run, "compat": compat},
                output=output,
                json=json,
            )
            return
        only_for_folders(output)
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
