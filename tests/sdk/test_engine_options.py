"""Options of engines by name: the right types arrive, anything else is named."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

import alm
from alm.engines import ENGINES, load_engine, load_engines
from alm.errors import EngineError


@dataclass(frozen=True)
class SteamOptions:
    pressure: int = 3
    whistle: bool | None = None


@dataclass(frozen=True)
class WindOptions:
    whistle: bool = False


@pytest.fixture(autouse=True)
def engines(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kind in (("steam", SteamOptions), ("wind", WindOptions), ("plain", None)):
        module = ModuleType(name)
        if kind is None:
            module.engine = lambda threads: (threads,)  # type: ignore[attr-defined]
        else:
            module.Options = kind  # type: ignore[attr-defined]
            module.engine = lambda threads, options: (threads, options)  # type: ignore[attr-defined]
        monkeypatch.setitem(__import__("sys").modules, name, module)
        monkeypatch.setitem(ENGINES, name, name)


def test_values_arrive_and_what_is_left_out_keeps_its_default() -> None:
    assert load_engine("steam", 2) == (2, SteamOptions())
    assert load_engine("steam", 2, {"pressure": 5}) == (2, SteamOptions(pressure=5))
    assert load_engine("steam", None, {"whistle": None}) == (len(os.sched_getaffinity(0)), SteamOptions())
    assert load_engine("plain", 1, {}) == (1,)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"presure": 3}, r"'steam' has no option 'presure'; it has pressure, whistle"),
        ({"pressure": "3"}, r"pressure of 'steam' is '3'; expected int"),
        ({"pressure": True}, r"is True; expected int"),
        ({"whistle": 1}, r"whistle of 'steam' is 1; expected bool or None"),
    ],
)
def test_wrong_names_and_types_are_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        load_engine("steam", 1, given)


def test_fewer_threads_than_one_are_refused() -> None:
    with pytest.raises(EngineError, match="threads is 0, expected 1 to 1024"):
        load_engine("plain", 0)


def test_an_engine_without_options_says_so() -> None:
    with pytest.raises(EngineError, match="'plain' has no option 'x'; it has none"):
        load_engine("plain", 1, {"x": 1})


def test_each_engine_of_a_package_gets_the_options_that_it_has() -> None:
    loaded = load_engines(["steam", "wind", "steam", "plain"], 2, {"whistle": True, "pressure": 1})
    assert loaded == {
        "steam": (2, SteamOptions(1, True)),
        "wind": (2, WindOptions(True)),
        "plain": (2,),
    }
    with pytest.raises(EngineError, match="has the option 'brake'; plain has none; steam has pressure, whistle; wind"):
        load_engines(["wind", "steam", "plain"], 2, {"brake": 1})


def test_a_package_is_loaded_with_them(package: Path) -> None:
    with pytest.raises(EngineError, match="no engine of this package has the option 'pressure'; fake has none"):
        alm.load(package, engine_options={"pressure": 1})
    alm.load(package, engine_options={}).close()
