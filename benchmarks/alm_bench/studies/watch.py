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

import typer
from rich.console import Console
from rich.table import Table

import alm
from alm.answering.drafts import CLEAR
from alm.answering.generation import Beginning, Generation, Settings
from alm.audio.windows import tile
from alm.commands.ending import run
from alm.engines.base import Float32, KVCache
from alm.models.mellow import Mellow
from alm_bench.machine.name import machine
from alm_bench.measuring.streaming import LEAD_S, NEW, PAUSE_S, PROMPT, SOUND_S, TOKENS, scene, streaming

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


def _drafts(model: Mellow) -> list[tuple[str, str]]:
    """Answer one question about one window with several drafts."""
    rate = model.info.frontend.sample_rate
    sound = scene(1, rate)[round(LEAD_S * rate) : round((LEAD_S + SOUND_S) * rate)]
    tokens = model.encode(tile(sound, model.info.frontend.samples))["audio_tokens"]
    prefix = model.reader.run_prefix((tokens, tokens))
    prompt = model.reader.decoder.embed(model.reader.tokenizer.prompt(PROMPT))
    right, _, _ = _answer(model, prefix, prompt, ())
    drafts = _made(right, (right[0] + 1) % model.info.decoder.vocabulary)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in drafts}
    for _ in range(ROUNDS):
        for name, draft in drafts.items():
            _, whole, decode = _answer(model, prefix, prompt, draft)
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


def _made(right: list[int], other: int) -> dict[str, Sequence[int]]:
    """Drafts by name, from the answer and a token that is not its first."""
    return {
        "no draft": (),
        "draft right": right,
        "draft right for half": [*right[: TOKENS // 2], *[other] * (TOKENS // 2)],
        "draft wrong after a token": [right[0], *[other] * (TOKENS - 1)],
        "draft wrong": [other] * TOKENS,
    }


def _answer(model: Mellow, prefix: KVCache, prompt: Float32, draft: Sequence[int]) -> tuple[list[int], float, float]:
    """The ids of TOKENS tokens, and the seconds with and without the question."""
    reader, cache, started = model.reader, prefix.fork(), time.perf_counter()
    logits = cache.append(prompt)
    ready = time.perf_counter()
    clear = 0.0 if model.info.weights.source == "random" else CLEAR
    beginning = Beginning(reader.decoder, cache, logits, stop_id=-1, budget=TOKENS, decode=reader.tokenizer.text)
    ids = [token for token, _ in Generation(beginning, Settings(), draft, clear)]
    done = time.perf_counter()
    return ids, done - started, done - ready


def _spread(seconds: Sequence[float]) -> str:
    if not seconds:
        return "none"
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


if __name__ == "__main__":
    run(lambda: typer.run(main), "watch")
