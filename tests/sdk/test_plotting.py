"""The picture of a score over time, as `alm score --plot` draws it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
from matplotlib.figure import Figure
from tiny_mellow import RATE, noise
from typer.testing import CliRunner

import alm
from alm.commands import app
from alm.errors import DependencyError, ResultsError
from alm.models import Pam
from alm.models.pam import Score
from alm.plotting import plot_score
from alm_export.pipeline import Exported

pytestmark = pytest.mark.usefixtures("one_thread")
SCORE = Score({"a": 0.5, "b": 0.25}, ((0, 1), (1, 2), (1.5, 2.5)), {"a": (0.4, 0.5, 0.6), "b": (0.25, 0.25, 0.25)})


def test_each_window_is_drawn_in_its_middle_and_the_mean_dashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *words, **options: drawn.append(figure))
    plot_score(SCORE, tmp_path / "s.png", title="x.wav")
    (axes,) = drawn[0].axes
    curves = [line for line in axes.lines if line.get_linestyle() == "-"]
    means = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert [list(line.get_xdata()) for line in curves] == [[0.5, 1.5, 2.0]] * 2
    assert [list(line.get_ydata()) for line in curves] == [list(values) for values in SCORE.curve.values()]
    assert [line.get_ydata()[0] for line in means] == [0.5, 0.25]
    assert (axes.get_xlim(), axes.get_ylim(), axes.get_title()) == ((0, 2.5), (0, 1), "x.wav")
    assert axes.get_legend() is None  # it would hide a part of the curves
    (legend,) = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["a 0.500", "b 0.250"]


def test_the_command_draws_a_long_recording(tiny_space: Callable[..., Exported], tmp_path: Path) -> None:
    package, sound, picture = tiny_space("pam").path, tmp_path / "long.wav", tmp_path / "long.png"
    soundfile.write(sound, noise(int(3.4 * RATE))[0], RATE, subtype="FLOAT")
    result = CliRunner().invoke(app, ["score", str(package), str(sound), "--plot", str(picture)])
    assert result.exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    with alm.load(package, Pam) as model:
        score = model.score(sound)
    assert score.spans == ((0, 1), (1, 2), (2, 3), (pytest.approx(2.4), pytest.approx(3.4)))
    table = [line.split()[-1] for line in result.stdout.splitlines() if line.strip()]
    assert table[-4:] == [f"{value:.3f}" for value in score.curve["quality"]]
    nowhere = tmp_path / "nowhere" / "x.png"
    refused = CliRunner().invoke(app, ["score", str(package), str(sound), "--plot", str(nowhere)])
    assert isinstance(refused.exception, ResultsError)
    assert str(refused.exception) == f"{nowhere} cannot be written: No such file or directory"
    assert f"{score.value:.3f}" in refused.stdout
    assert CliRunner().invoke(app, ["score", str(package), str(sound), "--plot", "x.odd"]).exit_code == 2


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(DependencyError, match=r"pip install 'alm-edge\[plot\]'"):
        plot_score(SCORE, tmp_path / "s.png")
