"""What every training run has: a folder of its own, progress that is shown, and seeds for what is held out."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel

from alm_train.data.library import Progress
from alm_train.data.recordings import DataError
from alm_train.loop import Report

HELD_OUT_SEEDS = 1_000_000
"""First seed of the held-out synthetic sounds, far from those trained on."""


class Reporter(Protocol):
    """How a run shows its progress."""

    def bar(self, name: str) -> AbstractContextManager[Progress]:
        """A progress bar for one part."""

    def stage(self, name: str) -> AbstractContextManager[Report]:
        """A progress bar for one training stage, with its metrics."""


def claim(output: Path, recipe: BaseModel) -> None:
    """Tie an output folder to one recipe: checkpoints of another must not be continued."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{output} cannot be a folder: {error.strerror}; choose another --output") from error
    file, text = output / "recipe.json", recipe.model_dump_json(indent=1, exclude={"threads", "checkpoint_seconds"})
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise DataError(f"{output} holds a run of another recipe; give an empty folder with --output")
    file.write_text(text, encoding="utf-8")
