"""Result files: what is written is read, and what is not a result is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.made import made_result, made_run, made_side
from hypothesis import given
from hypothesis import strategies as st

from alm_bench.results.files import parse_result, read_result, write_result
from alm_bench.results.records import BenchError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    result = made_result(made_side("a"), made_side("b"), busy=("somebody compiled",))
    write_result(result, tmp_path / "deep" / "result.json")
    assert read_result(tmp_path / "deep" / "result.json") == result
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["result.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(schema=2), "has schema 2, this version reads 1; measure again"),
        (lambda v: v.pop("schema"), "is not a result of alm-bench"),
        (lambda v: v.pop("noise"), "the field 'noise' is missing"),
        (lambda v: v.update(sides=[]), "expected one or more with names of their own"),
        (lambda v: v["sides"].append(v["sides"][0]), "expected one or more with names of their own"),
        (lambda v: v["sides"][0]["runs"][0]["stages"].update(lunch=[1.0]), "has the stage 'lunch', expected some of"),
        (lambda v: v["sides"][0]["runs"][0]["stages"].update(load=[]), "has no reading of 'load'"),
        (lambda v: v["sides"][0]["runs"][0]["stages"].update(load=["fast"]), "found 'fast', expected a number"),
        (lambda v: v["sides"][0]["runs"][0].update(unit="parsecs"), "expected one of 's', 'instructions'"),
    ],
)
def test_what_is_no_result_is_said(change: Any, message: str) -> None:
    value = json.loads(made_result().to_json())
    change(value)
    with pytest.raises(BenchError, match=r"^x\.json") as failed:
        parse_result(json.dumps(value), "x.json")
    assert message in str(failed.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"nowhere\.json cannot be read: No such file"):
        read_result(tmp_path / "nowhere.json")


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(BenchError, match=r"folder cannot be written: Is a directory"):
        write_result(made_result(), tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(place=st.lists(st.integers(0, 10), max_size=6), put=JSON)
def test_anything_in_any_place_is_read_or_refused(place: list[int], put: Any) -> None:
    value: Any = json.loads(made_result(made_side(run=made_run(decode=(1.0,)))).to_json())
    here = value
    for step in place:
        keys = list(here) if isinstance(here, dict) else list(range(len(here))) if isinstance(here, list) else []
        if not keys:
            break
        key = keys[step % len(keys)]
        if not isinstance(here[key], dict | list) or step == place[-1]:
            here[key] = put
            break
        here = here[key]
    try:
        parse_result(json.dumps(value), "x.json")
    except BenchError as refused:
        assert "x.json" in str(refused) or "Result" in str(refused)
