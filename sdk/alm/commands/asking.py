"""`alm ask` and `alm compare`: a question about one recording or about two, or about each or each pair of folders."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from alm.commands.arguments import (
    AsJson,
    EngineName,
    MaxTokens,
    PackagePath,
    Question,
    RecordingOrFolder,
    Seed,
    Stop,
    Temperature,
    Threads,
    TopP,
    Truncate,
    WindowOption,
)
from alm.commands.folders import Output, answers_over_folder, only_for_folders
from alm.commands.output import hearing, print_answer, print_json

if TYPE_CHECKING:
    from typing import Literal

    from alm.answering.answers import Answer
    from alm.answering.generation import GenerationOptions
    from alm.models.answerer import Answerer


@dataclass(frozen=True)
class Asking:
    """What is asked about each recording or pair."""

    question: str
    """The question."""
    options: GenerationOptions
    """How the answer is generated."""
    window: Literal["all", "first"]
    """Whether a long recording is heard window by window, or its first window only."""
    truncate: bool
    """Whether a question that is too long is cut."""


def ask(
    package: PackagePath,
    recording: RecordingOrFolder,
    question: Question,
    max_tokens: MaxTokens = None,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    seed: Seed = None,
    stop: Stop = None,
    window: WindowOption = "all",
    engine: EngineName = None,
    threads: Threads = None,
    truncate: Truncate = False,
    output: Output = None,
    json: AsJson = False,
) -> None:
    """Ask a question about a recording, or about each recording of a folder.

    A recording longer than the model's window is answered window by window.
    """
    asking = Asking(question, _options(max_tokens, temperature, top_p, seed, stop), window, truncate)
    _answer(package, (recording,), asking, engine, threads, output, json)


def compare(
    package: PackagePath,
    first: RecordingOrFolder,
    second: RecordingOrFolder,
    question: Question,
    max_tokens: MaxTokens = None,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    seed: Seed = None,
    stop: Stop = None,
    window: WindowOption = "all",
    engine: EngineName = None,
    threads: Threads = None,
    truncate: Truncate = False,
    output: Output = None,
    json: AsJson = False,
) -> None:
    """Ask a question about two recordings, or about each pair of two folders.

    Such as "explain the difference in few words." Both must fit into the model's window, or --window first
    must say that only their beginnings count. Of two folders, recordings of the same name are compared; of a
    folder and a recording, each with that one.
    """
    asking = Asking(question, _options(max_tokens, temperature, top_p, seed, stop), window, truncate)
    _answer(package, (first, second), asking, engine, threads, output, json)


def _options(
    max_tokens: int | None, temperature: float, top_p: float, seed: int | None, stop: list[str] | None
) -> GenerationOptions:
    return {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
        "stop": stop or (),
    }


def _answer(
    package: Path,
    recordings: tuple[str, ...],
    asking: Asking,
    engine: str | None,
    threads: int | None,
    output: Path | None,
    json: bool,
) -> None:
    from alm import load
    from alm.models.answerer import Answerer

    folder, *others = map(Path, recordings)
    if not folder.is_dir() and any(other.is_dir() for other in others):
        raise typer.BadParameter("a folder goes first, and then what its recordings are compared with")
    with load(package, Answerer, engine=engine, threads=threads) as model:  # type: ignore[type-abstract]
        if folder.is_dir():
            _about_folder(model, folder, others, asking, output, json)
        else:
            only_for_folders(output)
            _about_recordings(model, recordings, asking, json)


def _about_recordings(model: Answerer, recordings: tuple[str, ...], asking: Asking, json: bool) -> None:
    with hearing(recordings[0], quiet=json) as progress:
        clip = model.listen(*recordings, window=asking.window, progress=progress)
    with clip, clip.stream(asking.question, truncate=asking.truncate, **asking.options) as stream:
        if json:
            asked = {"package": str(model.package.path), "recordings": recordings, "question": asking.question}
            print_json(asked | vars(stream.finish()))
        else:
            print_answer(stream, clip.spans)


def _about_folder(
    model: Answerer, folder: Path, others: list[Path], asking: Asking, output: Path | None, json: bool
) -> None:
    """Ask about each recording of `folder`, beside its namesake in another folder or beside another recording."""
    question, truncate = asking.question, asking.truncate

    def answered(source: Path) -> Answer:
        seconds = (other / source.relative_to(folder) if other.is_dir() else other for other in others)
        with model.listen(source, *seconds, window=asking.window) as clip:
            return clip.ask(question, truncate=truncate, **asking.options)

    # What is wrong with a question is wrong for every recording: said once, before one is heard.
    model.reader.prompt(question, truncate=truncate)
    run = {"ask": model.package.fingerprint, "question": question, "window": asking.window, "truncate": truncate}
    run |= {"options": asking.options, "others": [str(other.resolve()) for other in others]}
    answers_over_folder(folder, answered, run=run, output=output, json=json)
    for other in others:
        _tell_alone(other, folder)


def _tell_alone(folder: Path, first: Path) -> None:
    """Say on stderr how many recordings of a second folder the first one has no partner for."""
    if not folder.is_dir():
        return
    from alm.folder import find_recordings

    if alone := [one.name for one in find_recordings(folder) if not (first / one.name).is_file()]:
        print(
            f"alm: {len(alone)} recordings of {folder} have no partner in {first}, such as {alone[0]}", file=sys.stderr
        )
