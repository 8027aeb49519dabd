"""How soon watching says what was heard, what it costs, and what drafts save.

    python -m alm_bench.studies.watch PACKAGE... [--sounds 5] [--threads 2]

Sounds of two seconds come in real time, with pauses of four. The delay from the end of a sound has three parts: the
gate waits for quiet, the model listens and reads the question (first token), and it answers. Drafts are measured on
answers of a fixed length, with drafts that are right, right for half of their length, and wrong. Random weights choose
between tokens that are nearly equal, where drafts are checked again token by token; their figures are those of
weights that are sure. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

import alm
from alm.answering.drafts import CLEAR
from alm.answering.generation import Beginning, Generation, Settings
from alm.audio.source import Samples
from alm.audio.windows import tile
from alm.listening.events import Event
from alm.listening.sources import RecordingSource
from alm.models.mellow import Mellow
from alm_bench.machine.name import machine
from alm_bench.results.records import Streaming

PROMPT = "caption the audio."
LEAD_S, SOUND_S, PAUSE_S = 6.0, 2.0, 4.0
"""Background before the first sound, length of a sound, and background after each."""
NOISE, LEVEL = 1e-3, 0.1
"""RMS of background and sounds, -60 and -20 dBFS."""
TOKENS = 16
"""Length of the answers that drafts are measured on."""
NEW = 0.8
"""Share of a window that is new when sound goes on: neighbours overlap by a fifth."""
ROUNDS = 7
"""Times each is measured; medians are printed."""


def main(
    packages: Annotated[list[Path], typer.Argument(exists=True, help="Packages to measure.")],
    sounds: Annotated[int, typer.Option(min=1, help="Sounds to wait for.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="Compute threads.")] = None,
) -> None:
    """Print delays, the share of real time and the speed of drafts for each package."""
    console = Console(width=120, highlight=False)
    for path in packages:
        with alm.load(path, threads=threads) as model:
            table = Table("", "", title=f"{path.name}: {model.info.model.name}, {model.info.weights.source} weights")
            for row in [*_delays(model, sounds), *_drafts(model)]:
                table.add_row(*row)
        console.print(table)
    console.print(f"{machine()}; {sounds} sounds, drafts are medians of {ROUNDS}")


def streaming(model: Mellow, sounds: int, threads: int) -> Streaming:
    """Watch sounds in real time; takes LEAD_S and then SOUND_S + PAUSE_S a sound. `threads` is for the record."""
    rate = model.info.frontend.sample_rate
    source = RecordingSource((_scene(sounds, rate), rate), paced=1.0)
    arrived: list[tuple[float, Event]] = []
    used, started = -time.process_time(), time.monotonic()
    # A captioner takes no question.
    with model.watch(source, PROMPT if model.info.prompt else None, max_tokens=TOKENS) as stream:
        arrived.extend((time.monotonic() - started, event) for event in stream)
    took = time.monotonic() - started
    used += time.process_time()
    delays, first_tokens = [], []
    for number in range(sounds):
        end = LEAD_S + number * (SOUND_S + PAUSE_S) + SOUND_S
        # The first event whose span has the end of the sound in it: windows overlap.
        for at, event in arrived:
            if event.start < end <= event.end + 0.1:
                delays.append(at - end)
                first_tokens.append(at - event.timing.decode - end)
                break
    timings = [event.timing for _, event in arrived]
    work = statistics.median(timing.encode + timing.prefill + timing.decode for timing in timings) if timings else 0.0
    share = work / (model.info.frontend.samples / rate) / NEW
    return Streaming(threads, sounds, tuple(first_tokens), tuple(delays), share, used / took)


def _delays(model: Mellow, sounds: int) -> list[tuple[str, str]]:
    heard = streaming(model, sounds, 0)
    window = model.info.frontend.samples / model.info.frontend.sample_rate
    return [
        ("sounds found", f"{len(heard.event)} of {sounds}"),
        ("end of a sound to the first token", _spread(heard.first_token)),
        ("end of a sound to its event", _spread(heard.event)),
        ("of that, the model", f"{heard.share * window * NEW:.2f} s, with answers of at most {TOKENS} tokens"),
        (f"share of real time, windows of {window:g} s back to back", f"{heard.share:.1%}"),
        (f"share of one core, {SOUND_S:g} s of sound in {SOUND_S + PAUSE_S:g} s", f"{heard.core_share:.1%}"),
    ]


def _scene(sounds: int, rate: int) -> Samples:
    """Noise, in which bands of noise of different height come and go."""
    random = np.random.default_rng(0)
    length = round((LEAD_S + sounds * (SOUND_S + PAUSE_S)) * rate)
    scene = NOISE * random.standard_normal(length)
    for number in range(sounds):
        start, size = round((LEAD_S + number * (SOUND_S + PAUSE_S)) * rate), round(SOUND_S * rate)
        spectrum = np.fft.rfft(random.standard_normal(size))
        hertz = np.fft.rfftfreq(size, 1 / rate)
        spectrum[(hertz < 400 * (number + 1)) | (hertz > 400 * (number + 3))] = 0
        band = np.fft.irfft(spectrum, size)
        scene[start : start + size] += LEVEL * band / np.sqrt(np.mean(np.square(band)))
    return scene.astype(np.float32)


def _drafts(model: Mellow) -> list[tuple[str, str]]:
    """Answer one question about one window with several drafts."""
    rate = model.info.frontend.sample_rate
    sound = _scene(1, rate)[round(LEAD_S * rate) : round((LEAD_S + SOUND_S) * rate)]
    tokens = model.encode(tile(sound, model.info.frontend.samples))["audio_tokens"]
    prefix = model.reader.run_prefix((tokens, tokens))
    prompt = model.reader.decoder.embed(model.reader.tokenizer.prompt(PROMPT))

    def answer(draft: Sequence[int]) -> tuple[list[int], float, float]:
        """The ids, and the seconds with and without the question."""
        cache, started = prefix.fork(), time.perf_counter()
        logits = cache.append(prompt)
        ready = time.perf_counter()
        clear = 0.0 if model.info.weights.source == "random" else CLEAR
        reader = model.reader
        beginning = Beginning(reader.decoder, cache, logits, stop_id=-1, budget=TOKENS, decode=reader.tokenizer.text)
        generation = Generation(beginning, Settings(), draft, clear)
        ids = [token for token, _ in generation]
        done = time.perf_counter()
        return ids, done - started, done - ready

    right, _, _ = answer(())
    other = (right[0] + 1) % model.info.decoder.vocabulary
    drafts = {
        "no draft": (),
        "draft right": right,
        "draft right for half": [*right[: TOKENS // 2], *[other] * (TOKENS // 2)],
        "draft wrong after a token": [right[0], *[other] * (TOKENS - 1)],
        "draft wrong": [other] * TOKENS,
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in drafts}
    for _ in range(ROUNDS):
        for name, draft in drafts.items():
            _, whole, decode = answer(draft)
            times[name].append((whole, decode))
    medians = {name: tuple(map(statistics.median, zip(*pairs, strict=True))) for name, pairs in times.items()}
    whole, decode = medians["no draft"]
    return [
        (
            f"{name}, {TOKENS} tokens",
            f"{1000 * here[1]:.0f} ms ({decode / here[1]:.2f}x), with the question {whole / here[0]:.2f}x",
        )
        for name, here in medians.items()
    ]


def _spread(seconds: Sequence[float]) -> str:
    if not seconds:
        return "none"
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


if __name__ == "__main__":
    typer.run(main)
