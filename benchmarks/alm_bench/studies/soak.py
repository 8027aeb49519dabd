"""A long day in short: does watching miss nothing and grow nowhere?

    python -m alm_bench.studies.soak --package mellow-arm64-int4.alm --minutes 60 --speed 20 [--data FOLDER]

Recordings in random order, with steady noise and pauses between them, are watched once as fast as they can be read,
which gives the events that are expected, and once at a multiple of real time, as a microphone would deliver them.
Without a folder the clips that come with alm-edge are played over and over. Exit status 1 when an event is missing or
another one came, when memory at rest grew by more than 2 MB after the first minute of sound, when the number of
threads changed, or when sound was lost. It also says what listening costs while the gate is closed.

Memory at rest is the least that is resident in a minute: the engine takes some for each pass and gives it back, and
the recordings are decoded in the same process, so single looks differ by more than any growth.
"""

from __future__ import annotations

import gc
import math
import os
import resource
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import alm
from alm.audio import read_audio
from alm.audio.source import Samples
from alm.errors import AlmError, AudioError
from alm.listening.blocks import BLOCK_SECONDS, Block
from alm.listening.events import Event
from alm.listening.gate import GateSettings
from alm.listening.windows import Windower
from alm.memory import return_large_blocks
from alm.models.mellow import Mellow
from alm_bench.machine.name import machine

CLIPS = Path("quantize/alm_quantize/clips")
ENDINGS = {".wav", ".flac", ".ogg", ".mp3"}
NOISE = 1e-3
"""RMS of the noise that is always there, -60 dBFS."""
PAUSE_S = (2.0, 20.0)
"""Shortest and longest pause between two recordings; a gate is closed most of a day."""
PROMPT = "caption the audio."
GROWTH_MB = 2.0
MINUTE_S = 60.0
LOOK_S = 0.01
"""Wall-clock time between two looks at memory and threads."""


class Playlist:
    """Recordings with pauses between them, block by block: the same sound each time it is played with one seed."""

    def __init__(self, files: list[Path], rate: int, seconds: float, speed: float | None, seed: int = 0) -> None:
        self._files = files
        self._seconds = seconds
        self._speed = speed
        self._seed = seed
        self._closed = threading.Event()
        self.sample_rate = rate
        self.live = speed is not None
        self.played = 0.0
        """Seconds played so far."""
        self.playing = True
        """False once everything was played."""
        self.late = 0.0
        """How far playing fell behind its pace at worst, wall-clock seconds."""

    def blocks(self) -> Iterator[Block]:
        """Blocks of 0.1 s; their pace is that of the monotonic clock."""
        size = round(self.sample_rate * BLOCK_SECONDS)
        started, total = time.monotonic(), round(self._seconds / BLOCK_SECONDS)
        for number, samples in zip(range(total), self._blocks(size), strict=False):
            if self._speed is not None:
                ahead = started + number * BLOCK_SECONDS / self._speed - time.monotonic()
                self.late = max(self.late, -ahead)
                if self._closed.wait(max(0.0, ahead)):
                    return
            self.played += BLOCK_SECONDS
            yield Block(samples, 0, math.nan)
        self.playing = False

    def close(self) -> None:
        """Stop playing."""
        self._closed.set()

    def _blocks(self, size: int) -> Iterator[Samples]:
        random = np.random.default_rng(self._seed)
        while True:
            recording = read_audio(self._files[random.integers(len(self._files))], self.sample_rate).samples
            quiet = np.zeros(round(random.uniform(*PAUSE_S) * self.sample_rate), np.float32)
            sound = np.concatenate([quiet, recording])
            for at in range(0, len(sound) // size * size, size):
                yield sound[at : at + size] + NOISE * random.standard_normal(size, np.float32)


@dataclass
class Growth:
    """Memory and threads of this process while sound is played."""

    at_rest: dict[int, float] = field(default_factory=dict)
    """Least resident memory in MB by minute of sound."""
    threads: set[int] = field(default_factory=set)
    """Numbers of threads that were seen."""

    def look(self, played: float) -> None:
        """Take down how it is now."""
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        minute, mb = int(played / MINUTE_S), int(status["VmRSS"].split()[0]) / 1024
        self.at_rest[minute] = min(mb, self.at_rest.get(minute, mb))
        self.threads.add(int(status["Threads"]))

    @property
    def grown_mb(self) -> float:
        """The most by which memory at rest later exceeded that of the second minute, when all had been used once."""
        settled = [mb for minute, mb in sorted(self.at_rest.items()) if minute]
        return max(settled) - settled[0] if settled else 0.0


def main(
    package: Annotated[Path, typer.Option(exists=True, help="An .alm package.")],
    minutes: Annotated[float, typer.Option(min=0.1, help="Minutes of sound.")] = 60.0,
    speed: Annotated[float, typer.Option(min=0.1, help="Times real time.")] = 20.0,
    data: Annotated[Path, typer.Option(exists=True, file_okay=False, help="A folder of recordings.")] = CLIPS,
    threads: Annotated[int | None, typer.Option(min=1, help="Compute threads.")] = None,
) -> None:
    """Watch a long playlist and compare with what offline processing finds."""
    files = sorted(path for path in data.rglob("*") if path.suffix in ENDINGS)
    if not files:
        raise AudioError(f"{data} holds no recordings, expected files ending in {', '.join(sorted(ENDINGS))}")
    seconds = minutes * 60
    return_large_blocks()
    with alm.load(package, threads=threads) as model:
        rate = model.info.frontend.sample_rate
        print(f"{machine()}\n{minutes:g} minutes of {len(files)} recordings from {data}, {rate} Hz", flush=True)
        expected, took = offline(model, Playlist(files, rate, seconds, None))
        print(f"offline: {len(expected)} events in {took:.0f} s, {seconds / took:.0f}x real time", flush=True)
        growth = Growth()
        playlist = Playlist(files, rate, seconds, speed)
        used = -time.process_time()
        found = watched(model, playlist, growth)
        used += time.process_time()
    problems = report(expected, found, growth, playlist, used, seconds)
    closed = gate_share(rate, model)
    print(f"gate closed: {closed:.2%} of one core at {rate} Hz")
    for problem in problems:
        print(f"BROKEN: {problem}")
    sys.exit(bool(problems))


def offline(model: Mellow, playlist: Playlist) -> tuple[list[Event], float]:
    """All events of the playlist as fast as it can be read, and the seconds that took."""
    started = time.perf_counter()
    with model.watch(playlist, PROMPT) as stream:
        return list(stream), time.perf_counter() - started


def watched(model: Mellow, playlist: Playlist, growth: Growth) -> list[Event]:
    """The events of a paced playlist, with looks at memory and threads meanwhile."""
    stop = threading.Event()
    found: list[Event] = []

    def look() -> None:
        while not stop.wait(LOOK_S) and playlist.playing:
            if playlist.played:
                growth.look(playlist.played)

    looker = threading.Thread(target=look)
    looker.start()
    gc.collect()
    try:
        with model.watch(playlist, PROMPT) as stream:
            found.extend(stream)
    finally:
        stop.set()
        looker.join()
    return found


def report(
    expected: list[Event], found: list[Event], growth: Growth, playlist: Playlist, used: float, seconds: float
) -> list[str]:
    """Print what was measured; return what is broken."""
    missing = [event for event in expected if event not in found]
    lost = sum(event.lost for event in found)
    print(f"watched: {len(found)} events, {len(missing)} of {len(expected)} missing, {lost:.1f} s lost")
    print(f"share of real time used: {used / seconds:.2%} of one core; at worst {playlist.late:.2f} s behind its pace")
    resting = ", ".join(f"{mb:.1f}" for _, mb in sorted(growth.at_rest.items()))
    print(f"memory at rest: {growth.grown_mb:+.2f} MB after the first minute, peak of the process {_peak_mb():.0f} MB")
    print(f"  by minute of sound: {resting}")
    print(f"threads: {' or '.join(map(str, sorted(growth.threads)))}")
    problems = []
    if missing or len(found) != len(expected):
        problems.append(f"{len(missing)} events are missing and {len(found) - len(expected) + len(missing)} are new")
    if lost:
        problems.append(f"{lost:.1f} s of sound were lost: this machine is too slow for this speed")
    if growth.grown_mb > GROWTH_MB:
        problems.append(f"memory grew by {growth.grown_mb:.2f} MB, expected at most {GROWTH_MB:g}")
    if len(growth.threads) > 1:
        problems.append("the number of threads changed")
    return problems


def gate_share(rate: int, model: Mellow, seconds: float = 120.0) -> float:
    """Processor time per second of steady noise, all that listening does while nothing sounds."""
    random = np.random.default_rng(0)
    windower = Windower(model.info.frontend, rate, GateSettings())
    size = round(rate * BLOCK_SECONDS)
    blocks = [Block(NOISE * random.standard_normal(size, np.float32), 0, math.nan) for _ in range(100)]
    used, windows = -time.process_time(), 0
    for number in range(round(seconds / BLOCK_SECONDS)):
        windows += len(list(windower.push(blocks[number % len(blocks)])))
    return (used + time.process_time()) / seconds


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    try:
        typer.run(main)
    except AlmError as error:
        print(f"soak: {error}", file=sys.stderr)
        os._exit(1)
