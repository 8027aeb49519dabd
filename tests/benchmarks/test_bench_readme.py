"""The README's table is what its result file gives, and nothing typed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from benchmarks.made import made_result, made_run, made_side

from alm_bench.reports.readme import BEGIN, END, table, update
from alm_bench.results.files import read_result
from alm_bench.results.records import BenchError

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def test_the_readme_is_what_the_result_gives() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert update(readme, read_result(RESULTS / "rivals.json")) == readme


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.name)
def test_committed_results_can_be_read(path: Path) -> None:
    assert read_result(path).sides


def test_ratios_of_whole_answers_and_of_decoding() -> None:
    stages = {"load": (1.0,) * 3, "decode": (1.0,) * 3, "prefix": (0.5,) * 3}
    decodes = dataclasses.replace(made_run(), stages=stages, steps=8)
    decoder = dataclasses.replace(made_side("decoder"), runs=(decodes,))
    ours = made_side("package", made_run(prefix=(0.25,) * 3))
    rows = table(made_result(ours, made_side("slow", made_run(3.0)), decoder)).splitlines()
    first, second, third = (row for row in rows if row.startswith("| a package"))
    assert first.endswith("|  |")
    assert second.endswith("| 3.0x |")
    assert third.endswith("| 2.50x decoding, 2.00x prefix |")
    assert "Versions: numpy 2." in rows[-1]


def test_a_ratio_is_taken_within_a_turn() -> None:
    """The machine takes three times as long within the second turn and in the third: medians would say 6x."""
    ours, theirs = (
        dataclasses.replace(made_run(), stages={"load": pace, "answer": pace})
        for pace in ((1.0, 1.0, 3.0), (2.0, 6.0, 6.0))
    )
    rows = table(made_result(made_side("package", ours), made_side("other", theirs))).splitlines()
    assert [row for row in rows if row.startswith("| a package")][1].endswith("| 2.0x |")


def test_a_busy_machine_is_said_in_the_readme() -> None:
    assert table(made_result(made_side("package"), busy=("it compiled",))).endswith(
        "The machine was busy: it compiled."
    )


def test_what_no_table_can_be_made_of() -> None:
    with pytest.raises(BenchError, match="expected 'package' among them"):
        table(made_result(made_side("other")))
    with pytest.raises(BenchError, match="the README has no"):
        update("# A README\n", made_result(made_side("package")))
    once = update(f"a\n{BEGIN}\nold\n{END}\nb\n", made_result(made_side("package")))
    assert "old" not in once and once.startswith(f"a\n{BEGIN}") and once.endswith(f"{END}\nb\n")
    assert update(once, made_result(made_side("package"))) == once
