"""The session benchmark runs on any package, and its figures are of what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from alm_bench.studies.sessions import _fresh, one_session, together

pytestmark = pytest.mark.usefixtures("one_thread")


def test_one_session(tiny_package: Path) -> None:
    figures = one_session(tiny_package, 1)
    assert all(value > 0 for value in figures.values())
    assert figures["saved with prefixes, bytes"] > figures["saved without, bytes"]
    all_rows, kept = (figures[f"audio tokens of a window{end}, bytes"] for end in (", all rows", " as kept"))
    assert all_rows > kept


def test_at_once_with_turns_and_without(tiny_package: Path) -> None:
    for turns in (True, False):
        assert all(value > 0 for value in _fresh(together, tiny_package, 1, 2, turns).values())
