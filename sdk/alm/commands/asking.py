"""`alm ask` and `alm compare`: a question about one recording, or about two."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alm.commands.arguments import (
    AsJson,
    EngineName,
    MaxTokens,
    PackagePath,
    Question,
    Recording,
    Seed,
    Stop,
    Temperature,
    Threads,
    TopP,
    Truncate,
    WindowOption,
)
from alm.commands.output import hearing, print_answer, print_json

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Literal

    from alm.generation import GenerationOptions


def ask(
    package: PackagePath,
    recording: Recording,
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
    json: AsJson = False,
) -> None:
    """Ask a question about a recording.

    A recording longer than the model's window is answered window by window.
    """
    options = _options(max_tokens, temperature, top_p, seed, stop)
    _answer(package, (recording,), question, options, window, engine, threads, truncate, json)


def compare(
    package: PackagePath,
    first: Recording,
    second: Recording,
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
    json: AsJson = False,
) -> None:
    """Ask a question about two recordings.

    Such as "explain the difference in few words." Both must fit into the model's window, or --window first
    must say that only their beginnings count.
    """
    options = _options(max_tokens, temperature, top_p, seed, stop)
    _answer(package, (first, second), question, options, window, engine, threads, truncate, json)


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
    question: str,
    options: GenerationOptions,
    window: Literal["all", "first"],
    engine: str | None,
    threads: int | None,
    truncate: bool,
    json: bool,
) -> None:
    from alm import load
    from alm.models.answerer import Answerer

    with load(package, Answerer, engine=engine, threads=threads) as model:  # type: ignore[type-abstract]
        with hearing(recordings[0], quiet=json) as progress:
            clip = model.listen(*recordings, window=window, progress=progress)
        with clip, clip.stream(question, truncate=truncate, **options) as stream:
            if json:
                asked = {"package": str(package), "recordings": recordings, "question": question}
                print_json(asked | vars(stream.finish()))
            else:
                print_answer(stream, clip.spans)
