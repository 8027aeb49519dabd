"""Ratios, shares, the regression gate and the page: what follows from readings."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from benchmarks.made import FACTS, made_result, made_run, made_side
from typer.testing import CliRunner

from alm_bench.commands import app
from alm_bench.measuring.sweep import names_of
from alm_bench.reports.comparing import changes, exceeded, table
from alm_bench.reports.figures import decode_share, middle, prefill_share, rate
from alm_bench.reports.page import render
from alm_bench.reports.tables import tables
from alm_bench.results.files import read_result, write_result
from alm_bench.results.records import BenchError, Result, Score


def stored(folder: Path, **results: Result) -> list[str]:
    for name, result in results.items():
        write_result(result, folder / f"{name}.json")
    return [str(folder / f"{name}.json") for name in results]


def test_rates_and_shares() -> None:
    run = made_run(decode=(0.4, 0.5, 0.9), prefill=(0.1,))
    side = made_side(run=run)
    result = made_result(side)
    assert rate(run) == 20.0
    # 2 GB a step at 20 steps a second, of 50 GB/s; 1 GFLOP in 0.1 s, of 100 GFLOP/s.
    assert decode_share(result, side, run) == pytest.approx(0.8)
    assert prefill_share(result, side, run) == pytest.approx(0.1)
    assert decode_share(result, side, dataclasses.replace(run, threads=4)) is None
    counted = dataclasses.replace(run, unit="instructions")
    assert decode_share(result, side, counted) is None
    assert rate(counted) == 20e6


def test_the_spread_is_that_of_the_quartiles() -> None:
    found = middle((1.0, 2.0, 3.0, 4.0, 5.0))
    assert (found.median, found.spread, found.n) == (3.0, pytest.approx(2 / 3), 5)
    assert middle((1.0,)).spread == 0.0


def test_ratios_are_of_the_first(tmp_path: Path) -> None:
    results = {"old": made_result(made_side("a")), "new": made_result(made_side("b", made_run(0.5)))}
    found = {change.stage: change.ratios for change in changes(results)}
    assert found["decode"] == (1.0, 2.0)
    rows = {row[1]: row[2:] for row in table(results, changes(results)).rows}
    assert rows["encode"] == ("1.00 s", "0.50 s  2.00x")


def test_sides_of_the_same_name_are_compared() -> None:
    first = made_result(made_side("a"), made_side("b", made_run(2.0)))
    other = made_result(made_side("b"), made_side("c"))
    assert {change.what for change in changes({"first": first, "other": other})} == {"b, 2 threads, warm"}


def test_nothing_in_common_is_an_error() -> None:
    cold = made_side(run=dataclasses.replace(made_run(), cache="cold"))
    with pytest.raises(BenchError, match="have no setting in common"):
        changes({"a": made_result(), "b": made_result(cold)})


@pytest.mark.parametrize(("factor", "status"), [(1.0, 0), (1.019, 0), (0.981, 0), (1.021, 1), (0.979, 1)])
def test_the_gate(factor: float, status: int, tmp_path: Path) -> None:
    files = stored(tmp_path, old=made_result(), new=made_result(made_side(run=made_run(factor))))
    done = CliRunner().invoke(app, ["compare", *files, "--within", "2"])
    assert (1 if isinstance(done.exception, BenchError) else done.exit_code) == status
    assert len(exceeded(changes({"a": made_result(), "b": made_result(made_side(run=made_run(factor)))}), 0.02)) == (
        6 * status
    )


def test_results_and_packages_do_not_mix(tmp_path: Path) -> None:
    files = stored(tmp_path, old=made_result())
    done = CliRunner().invoke(app, ["compare", *files, "x.alm"])
    assert "found 1 packages among 2 files" in str(done.exception)


def test_a_file_is_not_compared_with_itself(tmp_path: Path) -> None:
    (file,) = stored(tmp_path, old=made_result())
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["compare", file, file])
    assert done.exit_code == 2 and "is named twice" in done.output


def test_a_package_is_compared_with_itself_in_turn(tiny_package: Path, tmp_path: Path) -> None:
    output = tmp_path / "twice.json"
    words = ["compare", str(tiny_package), str(tiny_package), "--rounds", "1", "-o", str(output)]
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0
    sides = read_result(output).sides
    assert [side.name for side in sides] == [f"{tiny_package.stem} (1)", f"{tiny_package.stem} (2)"]
    # Each was measured: the second is no copy of the first.
    assert sides[0].runs[0].stages != sides[1].runs[0].stages


def test_names_of_sides_differ() -> None:
    paths = [Path(name) for name in ("a/x.alm", "b/x.alm", "c/a/x.alm", "y.alm", "y.alm")]
    assert names_of(paths) == ("a/x (1)", "b/x", "a/x (2)", "y (1)", "y (2)")


def test_captioners_and_embedders_have_their_own_count(tmp_path: Path) -> None:
    facts = dataclasses.replace(FACTS, quality={"ranking": Score(0.99, 0.98, 0.995, 276)})
    side = dataclasses.replace(made_side(), package=facts)
    (size,) = [made for made in tables(made_result(side)) if made.title.startswith("Size")]
    assert "99.0% [98.0%, 99.5%] of 276 orders of two texts" in size.rows[0]


def test_a_busy_machine_is_marked_everywhere() -> None:
    result = made_result(busy=("others used 1.00 cores",))
    (*_, machine) = tables(result)
    assert machine.rows[0] == ("BUSY", "others used 1.00 cores")
    assert "the machine was busy" in render({"mine": result})
    assert (
        "BUSY machine: mine"
        in table({"mine": result, "other": made_result()}, changes({"a": result, "b": result})).title
    )


def test_the_page_is_whole_and_asks_for_nothing(tmp_path: Path) -> None:
    files = stored(tmp_path, a=made_result(made_side("<script>alert(1)</script>")), b=made_result())
    page = tmp_path / "report.html"
    done = CliRunner().invoke(app, ["report", str(tmp_path), "-o", str(page)], catch_exceptions=False)
    assert done.exit_code == 0 and len(files) == 2
    text = page.read_text()
    assert text.count("<svg") == 4
    assert "<script" not in text and "&lt;script&gt;" in text
    # Nothing is loaded: addresses are only those of XML name spaces and of places on the page itself.
    assert re.findall(r"""(?:src|href)\s*=\s*["'](?!#)""", text) == []
    assert {
        address for address in re.findall(r"https?://[\w./-]+", text) if not address.startswith("http://www.w3.org/")
    } == set()
    names = re.findall(r'\bid="([^"]+)"', text)
    assert len(names) == len(set(names))
    assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', text)) <= set(names)


def test_a_folder_without_results(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert "holds no .json files" in str(done.exception)
