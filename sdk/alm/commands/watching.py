"""`alm watch`: a line per event of a microphone, a recording or a pipe."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alm.commands.arguments import AsJson, EngineName, MaxTokens, PackagePath, Threads
from alm.commands.output import print_json_line, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alm.listening.blocks import LiveSource
    from alm.listening.events import Event

STDIN = "-"

SourceArgument = Annotated[
    str | None,
    typer.Argument(metavar="SOURCE", help="A sound file, or - for raw PCM on standard input.", show_default=False),
]
Microphone = Annotated[bool, typer.Option("--mic", help="Listen to the default microphone.")]
Device = Annotated[
    str | None, typer.Option(metavar="NAME", help="Listen to this microphone: a part of its name, or its number.")
]
File = Annotated[str | None, typer.Option("--file", metavar="FILE", help="A sound file.", show_default=False)]
Question = Annotated[
    str | None,
    typer.Option("--question", help="What to ask about every sound.", show_default="caption the audio."),
]
Rate = Annotated[
    int | None,
    typer.Option(min=1, help="Hz of raw PCM, or to open the microphone with.", show_default="16000; its own"),
]
Channels = Annotated[int | None, typer.Option(min=1, help="Interleaved channels of raw PCM.", show_default="1")]
Format = Annotated[
    str | None, typer.Option(help="Samples of raw PCM: u8, s16le, s24le, s32le or f32le.", show_default="s16le")
]
Gate = Annotated[bool, typer.Option("--gate/--no-gate", help="Ask only when something sounds, or all the time.")]
Threshold = Annotated[float, typer.Option(help="How far a sound must stand out: 2 takes twice as many dB as 1.")]


def watch(
    package: PackagePath,
    source: SourceArgument = None,
    mic: Microphone = False,
    device: Device = None,
    file: File = None,
    question: Question = None,
    max_tokens: MaxTokens = None,
    gate: Gate = True,
    threshold: Threshold = 1.0,
    rate: Rate = None,
    channels: Channels = None,
    format: Format = None,
    engine: EngineName = None,
    threads: Threads = None,
    json: AsJson = False,
) -> None:
    """Say what is heard, one line per event, until the sound ends or Ctrl-C.

    Such as: alm watch PACKAGE --mic, or: arecord -q -f S16_LE -r 16000 | alm watch PACKAGE -
    """
    given = [name for name, here in {"SOURCE": source, "--file": file, "--mic": mic or device}.items() if here]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise typer.BadParameter(f"found {found}, expected one of: a sound file, -, --file FILE, --mic, --device NAME")
    place = source or file
    _only_where_it_counts(place, rate, channels, format)
    from alm import load
    from alm.listening.gate import GateSettings
    from alm.memory import return_large_blocks
    from alm.models.answerer import Answerer
    from alm.models.listener import Listener

    return_large_blocks()
    settings = GateSettings(threshold=threshold) if gate else None
    with load(package, Listener, engine=engine, threads=threads) as model:  # type: ignore[type-abstract]
        sound = _source(place, device, rate, channels or 1, format or "s16le")
        asked = "caption the audio." if question is None and isinstance(model, Answerer) else question
        with model.watch(sound, asked, gate=settings, max_tokens=max_tokens) as events, _listening(json):
            for event in events:
                if json:
                    print_json_line(event)
                else:
                    print(_line(event), flush=True)
    if cut := getattr(sound, "cut_bytes", 0):
        print(f"alm: the input ended within a frame, whose bytes ({cut}) were dropped", file=sys.stderr)


def _only_where_it_counts(path: str | None, rate: int | None, channels: int | None, format: str | None) -> None:
    """Wrong usage for options that the source would not heed: a sound file says itself how it is stored."""
    given = {"--rate": rate, "--channels": channels, "--format": format}
    heeded = given.keys() if path == STDIN else {"--rate"} if path is None else set()
    for option, value in given.items():
        if value is not None and option not in heeded:
            raise typer.BadParameter("it is for raw PCM on standard input", param_hint=option)


def _source(path: str | None, device: str | None, rate: int | None, channels: int, format: str) -> LiveSource:
    if path == STDIN:
        from alm.listening.pcm import PcmPipe

        return PcmPipe(sys.stdin.buffer, rate or 16_000, channels, format)
    if path is not None:
        from alm.listening.sources import RecordingSource

        return RecordingSource(Path(path))
    from alm.listening.microphone import Microphone

    number = device is not None and device.isdecimal()
    return Microphone(int(device) if device and number else device, sample_rate=rate)


def _line(event: Event) -> str:
    """Time, level and text; a clock time where there is one, else seconds into the recording."""
    if event.time is None:
        when = f"{_clock(event.start)} - {_clock(event.end)}"
    else:
        from datetime import datetime

        start, end = (datetime.fromtimestamp(event.time + later) for later in (0.0, event.end - event.start))
        when = f"{start:%Y-%m-%d %H:%M:%S} - {end:%H:%M:%S}"
    lost = f"  ({event.lost:.1f} s before it were lost)" if event.lost else ""
    return printable(f"{when}  {event.level_db:4.0f} dB  {event.text}{lost}")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{rest:04.1f}"


@contextmanager
def _listening(quiet: bool) -> Iterator[None]:
    """Say on stderr that it listens, while a terminal is there to see it and the events beside it."""
    # rich takes over standard output as well, so events that go to a file or a pipe must not meet it.
    if quiet or not (sys.stderr.isatty() and sys.stdout.isatty()):
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status("listening, Ctrl-C ends"):
        yield
