"""The documents say what is true: their Python runs, their commands parse, their links and make targets exist."""

from __future__ import annotations

import importlib.util
import pydoc
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer
from sdk.fakes import RATE, SAMPLES, write_fake

import alm.commands
import alm_bench.commands
import alm_export.commands
import alm_train.commands
from alm.engines import ENGINES
from alm_export.pipeline import Exported

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MAIN = {
    "alm": typer.main.get_command(alm.commands.app),
    "alm-bench": typer.main.get_command(alm_bench.commands.app),
    "alm-export": typer.main.get_command(alm_export.commands.app),
    "alm-train": typer.main.get_command(alm_train.commands.app),
}

DEVICE_PROGRAMS = ("arecord", "journalctl", "sudo")
"""What comes with Raspberry Pi OS."""


def blocks(*languages: str) -> Iterator[pytest.param]:
    """Fenced code of the documents, by the language after the fence."""
    for path in DOCUMENTS:
        found = re.finditer(r"^```(\w+)\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)
        for number, match in enumerate(found):
            if match[1] in languages:
                yield pytest.param(match[2], id=f"{path.name}-{number}")


def commands() -> Iterator[pytest.param]:
    """Lines that are typed: those after `$ `, and `make` or our commands in inline code."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        typed = re.findall(r"^\$ (.+)$", text, re.M)
        inline = re.findall(r"`((?:make|alm|alm-bench|alm-export|alm-train|python -m) [^`\n]+)`", text)
        for line in dict.fromkeys(typed + inline):
            for command in line.partition("  #")[0].split(" | "):
                yield pytest.param(command, id=f"{path.name}-{command}")


@pytest.mark.parametrize("program", [*blocks("python")])
def test_python_runs(
    program: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_space: Callable[..., Exported],
    tiny_captioner_export: Callable[..., Exported],
) -> None:
    monkeypatch.setitem(ENGINES, "fake", "sdk.fakes")
    monkeypatch.chdir(tmp_path)
    write_fake(tmp_path / "mellow-arm64-int4.alm")
    makers = {"clap": tiny_space, "pam": tiny_space, "clapcap": tiny_captioner_export, "adiff": tiny_captioner_export}
    for family, make in makers.items():
        if f'"{family}.alm"' in program:
            (tmp_path / f"{family}.alm").symlink_to(make(family).path)
    if '"recordings"' in program:
        (tmp_path / "recordings").mkdir()
        soundfile.write("recordings/a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, SAMPLES), RATE)
    for name in re.findall(r"\"(\w+\.wav)\"", program):
        soundfile.write(name, np.random.default_rng(len(name)).uniform(-0.5, 0.5, SAMPLES), RATE)
    exec(compile(program, "document", "exec"), {"__name__": "document"})


@pytest.mark.parametrize("line", [*commands()])
def test_commands_parse(line: str) -> None:
    words = shlex.split(line)
    words = words[next((i for i, word in enumerate(words) if "=" not in word), 0) :]
    program = Path(words[0]).name
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
        assert {word for word in words[1:] if "=" not in word} <= set(targets)
    elif program in MAIN:
        check_options(program, words[1:])
    elif words[1:2] == ["-m"] and words[2].startswith("alm"):
        assert importlib.util.find_spec(words[2]), f"there is no module {words[2]}"
    else:
        known = ("git", "cd", "python", "python3", "pip", "pytest", "ruff", "mypy", "scp", "ssh", *DEVICE_PROGRAMS)
        assert program in known or Path(ROOT, words[0]).is_file(), f"{program} is neither ours nor usual"


def check_options(program: str, words: list[str]) -> None:
    """Subcommand and options exist; values are not looked at."""
    command = MAIN[program]
    if program in ("alm", "alm-bench", "alm-train"):
        assert words[0] in command.commands, f"{program} has no command {words[0]}"  # type: ignore[attr-defined]
        command = command.commands[words[0]]  # type: ignore[attr-defined]
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("-") and word != "-"} <= options | {"--help"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_files_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]
    assert [link for link in links if not (path.parent / link).exists()] == []
    folders = "|".join(entry.name for entry in ROOT.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    named = re.findall(rf"`((?:{folders})/[\w./-]*)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_dotted_names_exist(path: Path) -> None:
    """`alm.load`, `alm.models.Mellow.listen` and the like lead to something."""
    named = set(re.findall(r"`((?:alm|alm_\w+)(?:\.\w+)+)", path.read_text(encoding="utf-8")))
    for name in sorted(named):
        assert pydoc.locate(name) is not None, f"{path.name} names {name}"


def test_every_command_is_documented() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [name for name in MAIN["alm"].commands if f"`alm {name}" not in readme]  # type: ignore[attr-defined]
    assert missing == []


def test_python_is_supported() -> None:
    stated = re.search(r"Python 3\.(\d+) to 3\.(\d+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert stated and int(stated[1]) <= sys.version_info.minor <= int(stated[2])
