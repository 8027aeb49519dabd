"""Plots of results as SVG that takes its colours from the page, so that one file serves light and dark."""

from __future__ import annotations

import io
import re
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from alm.errors import DependencyError
from alm_bench.reports.figures import BOUNDS, decode_bound, decode_share, kept
from alm_bench.results.records import Memory, Result, Run, Side

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#123456"
"""Stands for the page's text colour, which takes its place in the SVG."""
COLOURS = ("#3b82c4", "#d98021", "#3f9c57", "#b04a9a", "#c2483d", "#7d6bb8")
BREAKDOWN = {"encode": "listen", "prefill": "read question or prefix", "decode": "answer"}
"""Stages that follow each other in an answer."""
WIDTH = 5.6
"""Inches: on the width of a phone, where the page shrinks it to two thirds, text can still be read."""


def breakdown(results: dict[str, Result]) -> str:
    """Where the time of an answer goes: a bar per setting, stacked by stage."""
    rows = [
        (_label(name, side, run, results), run)
        for name, result in results.items()
        for side in result.sides
        for run in side.runs
        if run.unit == "s" and run.cache == "warm" and BREAKDOWN.keys() <= run.stages.keys()
    ]
    if not rows:
        return ""
    with _axes(0.6 + 0.42 * len(rows)) as (axes, drawn):
        left = [0.0] * len(rows)
        for number, (stage, words) in enumerate(BREAKDOWN.items()):
            width = [statistics.median(run.stages[stage]) for _, run in rows]
            axes.barh(range(len(rows)), width, left=left, height=0.62, color=COLOURS[number], label=words)
            left = [a + b for a, b in zip(left, width, strict=True)]
        axes.set_yticks(range(len(rows)), [label for label, _ in rows])
        axes.invert_yaxis()
        axes.set_xlabel("seconds")
        _legend(axes)
    return drawn()


def memory(results: dict[str, Result]) -> str:
    """Resident memory over the life of a process, what files back below what is its own."""
    rows = [
        (_short(name, side, results), side.memory[-1])
        for name, result in results.items()
        for side in result.sides
        if side.memory
    ]
    if not rows:
        return ""
    with _axes(2.2 * len(rows), len(rows)) as (axes, drawn):
        for place, (label, measured) in zip(axes if len(rows) > 1 else [axes], rows, strict=True):
            _over_time(place, label, measured)
        _legend(axes[0] if len(rows) > 1 else axes)
    return drawn()


def quality(results: dict[str, Result]) -> str:
    """Decisions that stay those of float32, with their interval, over the size of the package."""
    points = [
        (_short(name, side, results), side.package.size, *found)
        for name, result in results.items()
        for side in result.sides
        if side.package and (found := kept(side.package))
    ]
    if not points:
        return ""
    with _axes(3.2) as (axes, drawn):
        for number, (label, size, score, words) in enumerate(points):
            error = [[100 * max(0.0, score.share - score.low)], [100 * max(0.0, score.high - score.share)]]
            colour = COLOURS[number % len(COLOURS)]
            axes.errorbar(
                size / 1e6,
                100 * score.share,
                error,
                fmt="o",
                color=colour,
                capsize=3,
                label=f"{label} ({score.n} {words})",
            )
        axes.set_xlabel("package, MB")
        axes.set_xlim(left=0)
        axes.set_ylabel("as float32, %")
        _legend(axes, columns=2)
    return drawn()


def roofline(results: dict[str, Result]) -> str:
    """How near decoding comes to what the machine gives: the memory's bandwidth, or the rate of matrix products."""
    rows = [
        (_label(name, side, run, results), share, bound)
        for name, result in results.items()
        for side in result.sides
        for run in side.runs
        if run.cache == "warm"
        and (share := decode_share(result, side, run))
        and (bound := decode_bound(result, side, run))
    ]
    if not rows:
        return ""
    with _axes(0.6 + 0.42 * len(rows)) as (axes, drawn):
        axes.barh(range(len(rows)), [100] * len(rows), height=0.62, color=INK, alpha=0.15, label="limit")
        for bound, colour in zip(BOUNDS, COLOURS, strict=False):
            own = [(place, 100 * share) for place, (_, share, by) in enumerate(rows) if by == bound]
            if own:
                axes.barh(*zip(*own, strict=True), height=0.38, color=colour, label=f"bound by {bound}")
        for place, (_, share, _) in enumerate(rows):
            axes.text(100 * max(share, 1), place, f"  {share:.0%}", va="center", color=INK, fontsize=9)
        axes.set_yticks(range(len(rows)), [label for label, *_ in rows])
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set_xlabel("% of what the machine gives")
        _legend(axes)
    return drawn()


PLOTS: dict[str, Callable[[dict[str, Result]], str]] = {
    "Where the time of an answer goes": breakdown,
    "Memory over time": memory,
    "Size against quality": quality,
    "Decoding against the roofline": roofline,
}
"""By title; each gives an SVG, or nothing where no result has what it shows."""


def _over_time(axes: Axes, label: str, measured: Memory) -> None:
    seconds = [sample.seconds for sample in measured.timeline]
    files, own = ([getattr(s, field) for s in measured.timeline] for field in ("file_mb", "anonymous_mb"))
    axes.stackplot(seconds, files, own, colors=COLOURS[:2], alpha=0.75, labels=("backed by files", "its own"))
    axes.set_ylabel("MB")
    axes.set_title(label, fontsize=9, loc="left", color=INK)
    top = axes.get_ylim()[1]
    for words, at in measured.marks.items():
        axes.axvline(at, color=INK, linewidth=0.6, linestyle=":")
        axes.text(at, top, f" {words}", fontsize=7, va="top", ha="left", rotation=90, color=INK)
    axes.set_xlim(0, max(seconds))
    axes.set_xlabel("seconds since the process began to load")


@contextmanager
def _axes(height: float, rows: int = 1) -> Iterator[tuple[Any, Callable[[], str]]]:
    try:
        import matplotlib
    except ImportError:
        raise DependencyError("a report needs matplotlib; install it with: pip install 'alm-edge[bench]'") from None
    matplotlib.use("svg")
    from matplotlib import pyplot

    style = {"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9, "svg.hashsalt": "alm-bench"}
    style |= dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(rows, figsize=(WIDTH, height), layout="constrained")
        figure.patch.set_alpha(0)
        for place in axes if rows > 1 else [axes]:
            place.patch.set_alpha(0)
            place.spines[["top", "right"]].set_visible(False)
        try:
            yield axes, lambda: _svg(figure)
        finally:
            pyplot.close(figure)


def _svg(figure: Any) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    drawing = text.getvalue()
    # The drawing alone: a page has no use for an XML prologue, and no address may be in it to fetch.
    drawing = drawing[drawing.index("<svg") :].replace(INK, "currentColor")
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.S)
    # Identifiers repeat from drawing to drawing, and a page has one space of them.
    mark = f"p{abs(hash(drawing)) % 10**8}"
    drawing = re.sub(r'\b(id="|url\(#|href="#)', rf"\g<1>{mark}-", drawing)
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt" ', "", drawing, count=1)


def _legend(axes: Axes, columns: int = 3) -> None:
    labelled = axes.get_legend_handles_labels()
    axes.figure.legend(*labelled, loc="outside upper left", ncols=columns, frameon=False, fontsize=8, borderaxespad=0)


def _label(name: str, side: Side, run: Run, results: dict[str, Result]) -> str:
    return f"{_short(name, side, results)}, {run.threads} thread{'s' if run.threads > 1 else ''}"


def _short(name: str, side: Side, results: dict[str, Result]) -> str:
    if len(results) == 1:
        return side.name
    return name if len(results[name].sides) == 1 else f"{name}: {side.name}"
