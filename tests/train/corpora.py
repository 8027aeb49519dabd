"""Small corpora in the layout that training reads, made of synthetic sounds."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import soundfile

from alm_train.data.synthetic import synthesise

RATE = 16000
ESC50_COLUMNS = (
    "file", "label", "target", "group", "fold", "esc10", "freesound_id", "take",
    "source_title", "source_author", "source_licence", "split",
)  # fmt: skip
# Recordings that stand for classes: any two different sounds do.
STAND_INS = {"dog": "pure_tone", "rain": "white_noise"}


def write_corpora(folder: Path) -> Path:
    """`esc50` and `fsdd` with a few clips each, and the ontology; returns `folder`."""
    rows = []
    for label, sound in STAND_INS.items():
        for number in range(6):
            licence = ("CC0", "CC-BY", "CC-BY-NC")[number % 3]
            split = "val" if number >= 4 else "train"
            rows.append(esc50_row(label, f"{label}{number}", licence, split))
            write_clip(folder / "esc50" / rows[-1]["file"], sound, number)
    write_manifest(folder / "esc50", rows)
    digits = []
    for number, speaker in enumerate(("george", "george", "lucas", "theo")):
        file = f"audio/0_{speaker}_{number}.flac"
        digits.append({"file": file, "label": "zero", "digit": "0", "speaker": speaker, "index": "0", "split": "train"})
        write_clip(folder / "fsdd" / file, "warble", number)
    write_manifest(folder / "fsdd", digits)
    ontology = folder / "text/audioset_ontology/ontology.json.gz"
    ontology.parent.mkdir(parents=True)
    with gzip.open(ontology, "wt", encoding="utf-8") as file:
        json.dump([{"name": "Bark", "description": "The sound of a dog."}], file)
    return folder


def esc50_row(label: str, source: str, licence: str, split: str) -> dict[str, str]:
    """One manifest row."""
    row = dict.fromkeys(ESC50_COLUMNS, "")
    row |= {"file": f"audio/{source}.flac", "label": label, "freesound_id": source, "split": split}
    return row | {"source_licence": licence, "source_author": f"author of {source}", "source_title": "a title"}


def write_clip(file: Path, sound: str, seed: int) -> None:
    """Two seconds of a synthetic sound."""
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, synthesise(sound, seed, 2 * RATE, RATE), RATE)


def write_manifest(folder: Path, rows: list[dict[str, str]]) -> None:
    """`manifest.csv` with the columns of the first row."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


TINY_RECIPE = """
name: tiny
seed: 1
threads: 1
checkpoint_seconds: 3600
data: {corpora: [esc50, fsdd], per_source: 2, synthetic: 2, synthetic_held_out: 1, speeds: [1.0, 1.1], per_class: 2}
encoder:
  {samples: 160000, frames: 512, fold: 2, patch: [8, 16], width: 16, depths: [1, 1], heads: [2, 2], window: 8,
   drop_path: 0.1}
decoder: {vocabulary: 700, width: 64, hidden: 64, layers: 1, heads: 2, kv_heads: 1, max_positions: 256}
augmentation: &augmentation
  {mixup: 1.0, background: 0.3, background_db: [-30, -10], gain_db: 10, equaliser_db: 6, lowpass: 0.1,
   time_masks: 2, time_width: 60, mel_masks: 2, mel_width: 10}
teacher: {width: 4, dropout: 0.2}
teaching: &stage
  {epochs: 2, batch: 8, learning_rate: 1.0e-3, warmup_epochs: 1, weight_decay: 0.05, average: 0.9, gradient_clip: 5,
   validate_epochs: 1}
guidance: {answers: 0.7, features: 1.0}
tagging: *stage
answering:
  {epoch_questions: 16, growth_epochs: 1, views: 2, prompt_tokens: 64, answer_tokens: 32, stage: *stage,
   augmentation: *augmentation}
evaluation: {rounds: 1}
"""
