"""Questions about recordings, asked before and after quantization.

The bundled clips are public-domain recordings of twenty-four kinds of sound that the reference weights were
not trained on. A folder of the user's own recordings can stand beside them.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alm.audio import read_audio, resample, windows
from alm.errors import AudioError
from alm_train.data.sounds import SOUNDS

LETTERS = "abcd"


@dataclass(frozen=True)
class Probe:
    """One question about one clip."""

    clip: str
    """File name of the recording."""
    samples: NDArray[np.float32]
    """(samples,) the clip as the encoder takes it."""
    question: str
    """What is asked, lower case."""
    answer: str | None
    """What a right answer begins with; None where no single answer is right."""


def bundled_probes(sample_rate: int, samples: int) -> list[Probe]:
    """A caption, a multiple choice and a yes/no question about each bundled clip."""
    clips = bundled_clips(sample_rate, samples)
    labels = list(clips)
    probes = []
    for index, (label, clip) in enumerate(clips.items()):
        name = f"{label}.ogg"
        probes.append(Probe(name, clip, "what is the sound?", None))
        probes.append(Probe(name, clip, *_choice(labels, index)))
        # Every second question is about another clip's sound, so that always saying yes scores half.
        asked = label if index % 2 else labels[(index + 7) % len(labels)]
        presence = f"is there {SOUNDS[asked].phrase}?"
        probes.append(Probe(name, clip, presence, "yes" if asked == label else "no"))
    return probes


def bundled_clips(sample_rate: int, samples: int) -> dict[str, NDArray[np.float32]]:
    """The bundled clips (samples,) by their label."""
    with as_file(files("alm_quantize") / "clips") as folder:
        rows = list(csv.DictReader((folder / "CREDITS.csv").read_text(encoding="utf-8").splitlines()))
        return {row["label"]: _clip(folder / row["file"], sample_rate, samples) for row in rows}


def folder_clips(folder: Path, sample_rate: int, samples: int) -> dict[str, NDArray[np.float32]]:
    """The first window (samples,) of each recording below `folder` by its path; AudioError when none is readable."""
    clips = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            clips[str(path.relative_to(folder))] = _clip(path, sample_rate, samples)
        except AudioError:
            continue  # a data folder holds lists and licences too; an empty result is an error below
    if not clips:
        raise AudioError(f"{folder} holds no readable recording")
    return clips


def folder_probes(folder: Path, sample_rate: int, samples: int) -> list[Probe]:
    """Two open questions about the first window of each recording below `folder`; AudioError when none is readable."""
    questions = ("what is the sound?", "what is happening?")
    clips = folder_clips(folder, sample_rate, samples)
    return [Probe(name, clip, question, None) for name, clip in clips.items() for question in questions]


def _clip(path: Path, sample_rate: int, samples: int) -> NDArray[np.float32]:
    return windows(resample(read_audio(path), sample_rate), samples, policy="first")[0].samples


def _choice(labels: list[str], index: int) -> tuple[str, str]:
    """A four-option question whose right option moves through the letters, and its answer."""
    others = [labels[(index + step) % len(labels)] for step in (5, 11, 17)]
    options = [*others[: index % 4], labels[index], *others[index % 4 :]]
    listed = " ".join(f"{letter}) {SOUNDS[o].name}" for letter, o in zip(LETTERS, options, strict=True))
    return f"what is the sound? {listed}", f"{LETTERS[index % 4]})"
