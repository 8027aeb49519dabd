"""What the README shows a terminal to say is what the commands say: export of the weights that ship, then questions."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```console\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
EXCHANGES = [
    (command, answer)
    for block in BLOCKS
    for command, answer in re.findall(r"^\$ (alm .+)\n((?:[^$\n].*\n)+)", block, re.M)
]


def run(line: str, folder: Path) -> str:
    """Standard output of one of our commands."""
    name, *arguments = shlex.split(line)
    program = f"from {name.replace('-', '_')}.commands import main; main()"
    words = [sys.executable, "-c", program, *arguments]
    return subprocess.run(words, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, reference_package: Path) -> Path:
    """Where the transcript was taken: the root of a clone, after `make demo`'s export."""
    made = tmp_path_factory.mktemp("transcript")
    (made / "quantize").symlink_to(ROOT / "quantize")
    (made / reference_package.name).hardlink_to(reference_package)
    return made


def test_there_is_a_transcript() -> None:
    assert len(EXCHANGES) >= 3


@pytest.mark.parametrize(("command", "answer"), EXCHANGES)
def test_commands_say_what_the_readme_shows(command: str, answer: str, folder: Path) -> None:
    assert run(command, folder) == answer
