"""Task files about a corpus with labels, in the formats of the published ones.

    python -m alm_bench.quality.recipe_questions DATA CORPUS -o FOLDER

The questions are those of the training recipe (`alm_train.data.questions`) about the corpus' held-out recordings: a
ReasonAQA file with captions, multiple choice, yes/no, entailment and differences, and an Audio Entailment file. The
words come from the corpus' labels, so the scores tell packages of one recipe apart and say nothing about benchmarks.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from alm.commands.ending import run
from alm_train.data.questions import KINDS, TWO_CLIPS, UNHEARD_DETAILS, Pair, choice_of_four, make_question
from alm_train.data.recordings import Recording, read_recordings, validation_set
from alm_train.data.sounds import LABELS, SOUNDS


def main(
    data: Annotated[Path, typer.Argument(help="Folder that holds the corpora.")],
    corpus: Annotated[str, typer.Argument(help="Corpus folder in it, such as esc50.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write the task files to.")],
    seed: Annotated[int, typer.Option(help="Seed of the wording.")] = 0,
) -> None:
    """Write `<corpus>_questions.json` and `<corpus>_entailment.csv`."""
    recordings = validation_set(read_recordings(data, [corpus]))
    output.mkdir(parents=True, exist_ok=True)
    questions = reason_questions(recordings, seed)
    (output / f"{corpus}_questions.json").write_text(json.dumps(questions, indent=1))
    rows = entailment_rows(recordings, seed)
    with (output / f"{corpus}_entailment.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def reason_questions(recordings: list[Recording], seed: int) -> list[dict[str, str]]:
    """One question of every kind per recording, as rows of ReasonAQA."""
    random = np.random.default_rng(seed)
    heard = {recording.label for recording in recordings}
    others = tuple(label for label in LABELS if label in heard)
    rows = []
    for recording in recordings:
        for kind in KINDS:
            other = _different(random, recordings, recording) if kind in TWO_CLIPS else recording
            pair = Pair(recording.label, other.label, others)
            made = choice_of_four(random, pair) if kind == "choice" else make_question(kind, random, pair)
            rows.append(
                {
                    "taskname": recording.corpus,
                    "filepath1": recording.path.name,
                    "filepath2": other.path.name if kind in TWO_CLIPS else "",
                    "caption1": SOUNDS[recording.label].sentence,
                    "caption2": SOUNDS[other.label].sentence if kind in TWO_CLIPS else "",
                    "input": "caption the audio." if kind == "caption" else made.text,
                    "answer": made.answer,
                    "subtype": f"{kind}.json",
                }
            )
    return rows


def entailment_rows(recordings: list[Recording], seed: int) -> list[dict[str, str]]:
    """A true, an undecidable and a false statement per recording, as rows of Audio Entailment."""
    random = np.random.default_rng(seed)
    rows = []
    for recording in recordings:
        sound, other = SOUNDS[recording.label], SOUNDS[_different(random, recordings, recording).label]
        rows.append(
            {
                "Dataset": recording.corpus,
                "Audio file": recording.path.name,
                "Caption": sound.sentence,
                "Entailment": f"{sound.sentence}.",
                "Neutral": f"{sound.sentence} {UNHEARD_DETAILS[int(random.integers(len(UNHEARD_DETAILS)))]}.",
                "Contradiction": f"{other.sentence}.",
            }
        )
    return rows


def _different(random: np.random.Generator, recordings: list[Recording], one: Recording) -> Recording:
    others = [recording for recording in recordings if recording.label != one.label]
    return others[int(random.integers(len(others)))]


if __name__ == "__main__":
    run(lambda: typer.run(main), "recipe_questions")
