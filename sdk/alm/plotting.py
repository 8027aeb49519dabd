"""A score over time as a picture. Needs matplotlib, which the extra `plot` brings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alm.errors import DependencyError, ResultsError, reason_of

if TYPE_CHECKING:
    from alm.models.pam import Score


def plot_score(score: Score, path: str | Path, title: str = "") -> None:
    """Draw each prompt pair's score per window over the recording's seconds, and its mean as a dashed line.

    The ending of `path` says the format: png, svg, pdf. DependencyError without matplotlib, ResultsError when the
    picture cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyError(
            "a plot needs matplotlib, which is not installed: pip install 'alm-edge[plot]'"
        ) from error
    figure = Figure(figsize=(9, 3), layout="constrained")
    seconds = (0, score.spans[-1][1])
    axes = figure.add_subplot(xlabel="seconds", ylabel="score", xlim=seconds, ylim=(0, 1), title=title)
    middles = [(start + end) / 2 for start, end in score.spans]
    for name, values in score.curve.items():
        (line,) = axes.plot(middles, values, marker="o", markersize=3, label=f"{name} {score.values[name]:.3f}")
        axes.axhline(score.values[name], linestyle="--", linewidth=1, color=line.get_color())
    figure.legend(loc="outside lower center", ncols=4)  # a curve goes everywhere, so below it
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} cannot be written: {reason_of(error)}") from error
