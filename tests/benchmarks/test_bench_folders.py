"""Folders of alm_bench are those that the document lists, and import downwards only."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "benchmarks" / "alm_bench"
LISTED = re.findall(r"^\| `(\w+)/` \|", (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8"), re.M)


def imported(path: Path) -> set[str]:
    """Folders of alm_bench that a module imports from, its own left out."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    modules = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    folders = {module.split(".")[1] for module in modules if module.startswith("alm_bench.")}
    return folders - {path.relative_to(BENCH).parts[0]}


def test_folders_are_those_listed() -> None:
    assert sorted(LISTED) == sorted(path.parent.name for path in BENCH.glob("*/__init__.py"))


def test_imports_go_down() -> None:
    for place, folder in enumerate(LISTED):
        found = {name for path in (BENCH / folder).rglob("*.py") for name in imported(path)}
        assert found <= {*LISTED[place + 1 :]}, folder
