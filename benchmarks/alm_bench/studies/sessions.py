"""What keeping, saving and sharing sessions costs and brings, on a full-size package.

    python -m alm_bench.studies.sessions PACKAGE [--rounds 5] [--threads 2] [--json]

Each side of a comparison runs in turn, in fresh processes, and medians are shown. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

import alm
from alm.answering.turns import Turns
from alm.commands.ending import run
from alm.models.mellow import Mellow
from alm_bench.machine.name import machine

TOKENS = 24
QUESTION = "what is happening?"
Figures = dict[str, float]


def main(
    package: Annotated[Path, typer.Argument(exists=True, help="Package to measure, full size for figures that count.")],
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each side.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="Compute threads.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print every figure as JSON.")] = False,
) -> None:
    """Measure the clip cache, saved sessions, and questions asked at once with and without turns."""
    measurements: dict[str, tuple[Callable[..., Figures], tuple[Any, ...]]] = {
        "one session": (one_session, (package, threads)),
        **{
            f"{count} at once, {'in turns' if turns else 'all running'}": (together, (package, threads, count, turns))
            for count in (2, 4)
            for turns in (True, False)
        },
    }
    runs: dict[str, list[Figures]] = {name: [] for name in measurements}
    for _ in range(rounds):
        for name, (measure, arguments) in measurements.items():
            runs[name].append(_fresh(measure, *arguments))
    if as_json:
        print(json.dumps({"machine": machine(), "threads": threads, "runs": runs}, indent=1))
        return
    table = Table("", "", "median", title=f"{package.name}, {threads} threads")
    for name, figures in runs.items():
        for figure in figures[0]:
            median = statistics.median(run[figure] for run in figures)
            table.add_row(name, figure, f"{median:,.0f}" if median > 100 else f"{median:.3f}")
    console = Console(width=120)
    console.print(table)
    console.print(f"{machine()}; medians of {rounds}", highlight=False)


def one_session(package: Path, threads: int) -> Figures:
    """Hear, hear again, compare, save and restore."""
    with alm.load(package, threads=threads) as model, tempfile.TemporaryDirectory() as folder:
        one, two, other = (_sound(model, seed) for seed in range(3))
        # The first run of a graph also prepares it.
        model.listen(other).ask(QUESTION, max_tokens=2)
        clip, first = _timed(lambda: model.listen(one))
        _, again = _timed(lambda: model.listen(one))
        model.listen(two)
        _, pair_heard = _timed(lambda: model.listen(one, two))
        with alm.load(package, threads=threads, verify=False, cache_bytes=0) as bare:
            bare.listen(other)
            _, pair = _timed(lambda: bare.listen(one, two))
        rows = model.encode(one[0])["audio_tokens"]
        tokens = clip.ask(QUESTION, max_tokens=TOKENS).tokens
        figures = {
            "listen, s": first,
            "listen to the same sound again, s": again,
            "listen to a pair, s": pair,
            "listen to a pair whose halves were heard, s": pair_heard,
            "audio tokens of a window, all rows, bytes": rows.nbytes,
            "audio tokens of a window as kept, bytes": clip._open()[0].slots[0].nbytes,
        }
        for name, prefixes in (("with prefixes", True), ("without", False)):
            path = Path(folder, name)
            _, save = _timed(lambda: clip.save(path, prefixes=prefixes))  # noqa: B023
            restored, restore = _timed(lambda: alm.restore(path, model))  # noqa: B023
            answer = restored.ask(QUESTION, max_tokens=TOKENS)
            if answer.tokens != tokens:
                raise SystemExit("a restored session answers otherwise than the one that was saved")
            figures |= {
                f"saved {name}, bytes": path.stat().st_size,
                f"save {name}, s": save,
                f"restore {name}, s": restore,
                f"first token after a restore {name}, s": answer.timing.first_token,
            }
        return figures


def together(package: Path, threads: int, count: int, turns: bool) -> Figures:
    """Listen and ask from `count` threads at once, with turns or with all of them running."""
    if not turns:
        Turns.turn = lambda self, question=None: nullcontext()  # type: ignore[assignment,method-assign,misc]
    with alm.load(package, threads=threads) as model, ThreadPoolExecutor(count) as pool:
        model.listen(_sound(model, 99)).ask(QUESTION, max_tokens=2)
        started = time.perf_counter()
        clips = list(pool.map(model.listen, [_sound(model, seed) for seed in range(count)]))
        heard = time.perf_counter()
        answers = list(pool.map(lambda clip: clip.ask(QUESTION, max_tokens=TOKENS), clips))
        answered = time.perf_counter()
    return {
        "all heard, s": heard - started,
        "all answered, s": answered - heard,
        "mean time to a first token, s": statistics.mean(answer.timing.first_token for answer in answers),
        "peak memory, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _fresh(measure: Callable[..., Figures], *arguments: Any) -> Figures:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(measure, *arguments).result()


def _sound(model: Mellow, seed: int) -> tuple[np.ndarray, int]:
    frontend = model.info.frontend
    samples = np.random.default_rng(seed).uniform(-0.3, 0.3, frontend.samples)
    return samples.astype(np.float32), frontend.sample_rate


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return work(), time.perf_counter() - started


if __name__ == "__main__":
    run(lambda: typer.run(main), "sessions")
