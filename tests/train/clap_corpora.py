"""The corpora of a tiny CLAP run: what `corpora` writes, plus captions, ratings and clips to measure with."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

from corpora import write_clip, write_corpora, write_manifest

from alm_train.contrastive.captions import CLOTHO, CLOTHO_COLUMNS, STYLES

CAPTIONS = (
    "a dog barks at {}",
    "rain falls on {}",
    "a cat meows by {}",
    "wind blows over {}",
    "a bell rings near {}",
)
PLACES = ("the gate", "the old roof", "a quiet street", "the barn", "two people", "an open window")


def write_clap_corpora(folder: Path) -> Path:
    """Everything that `alm-train clap` reads; returns `folder`."""
    write_corpora(folder)
    _label_groups(folder / "esc50")
    sentences = [caption.format(place) for place in PLACES for caption in CAPTIONS]
    for split, clotho in CLOTHO.items():
        for style in STYLES:
            styled = folder / "text/noaudio_style" / style
            rows = [{"audiocap_id": n, "style_caption": f"{style} {text}"} for n, text in enumerate(sentences)]
            _write_table(styled / f"audiocaps_style_{split}.csv", rows)
            rows = [
                {"file_name": f"{n}.wav"} | {c: f"{text}, {style} {c[-1]}" for c in CLOTHO_COLUMNS}
                for n, text in enumerate(sentences)
            ]
            _write_table(styled / f"clotho_captions_style_{clotho}.csv", rows)
        rows = [
            {
                "Audio file": f"{n}.wav",
                "Entailment": f"one hears that {text}",
                "Neutral": f"{text} every day.",
                "Contradiction": f"there is no sound at all {n}",
            }
            for n, text in enumerate(sentences)
        ]
        _write_table(folder / "text/audio_entailment" / f"clotho_entailment_{clotho}.csv", rows, packed=True)
    _write_listening(folder / "codec_mushra")
    return folder


def _label_groups(folder: Path) -> None:
    """The classes of the tiny ESC-50 under groups: of each the first in the alphabet is kept out."""
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for number in range(4):
        file = f"audio/cat{number}.flac"
        copied = dict(rows[0], file=file, label="cat", freesound_id=f"cat{number}")
        rows.append(copied | {"split": "val" if number >= 2 else "train"})
        write_clip(folder / file, "beeps", number)
    write_manifest(folder, [dict(row, group="water" if row["label"] == "rain" else "animals") for row in rows])


def _write_listening(folder: Path) -> None:
    rows = []
    for number, (condition, rating) in enumerate((("Reference", 95.0), ("Codec", 40.0), ("Codec", 20.0), ("", None))):
        file = f"audio/{number}.flac"
        rated = {"n_ratings": 0 if rating is None else 5, "mean_rating": rating}
        rows.append({"file": file, "signal": "talker", "condition": condition, **rated})
        write_clip(folder / file, "warble", number)
    write_manifest(folder, [{key: str(value) for key, value in row.items()} for row in rows])


def _write_table(file: Path, rows: list[dict], packed: bool = False) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    content = out.getvalue().encode()
    if packed:
        file.with_name(file.name + ".gz").write_bytes(gzip.compress(content))
    else:
        file.write_bytes(content)


TINY_CLAP = """
name: tiny-clap
seed: 1
threads: 1
checkpoint_seconds: 3600
data:
  {corpora: [esc50, fsdd], per_source: 2, synthetic: 2, synthetic_held_out: 1, speeds: [1.0], per_class: 2,
   held_out_per_group: 1, ranked: [codec_mushra], spoilt: 1}
encoder:
  {samples: 160000, frames: 512, fold: 2, patch: [8, 16], width: 16, depths: [1, 1], heads: [2, 2], window: 8,
   drop_path: 0.1}
text: {vocabulary: 400, width: 32, layers: 1, heads: 2, max_positions: 40, dropout: 0.1, tokens: 32}
embedding: 24
augmentation:
  {mixup: 1.0, background: 0.3, background_db: [-30, -10], gain_db: 10, equaliser_db: 6, lowpass: 0.1,
   time_masks: 2, time_width: 60, mel_masks: 2, mel_width: 10}
reading:
  {steps: 4, batch: 16, learning_rate: 1.0e-3, warmup_steps: 1, weight_decay: 0.05, average: 0.9, gradient_clip: 1,
   validate_steps: 2}
teacher: {width: 4, dropout: 0.2}
teaching: &stage
  {epochs: 2, batch: 8, learning_rate: 1.0e-3, warmup_epochs: 1, weight_decay: 0.05, average: 0.9, gradient_clip: 5,
   validate_epochs: 1}
hearing: {pairs: 2, quality: 1.0, answers: 0.5, features: 1.0, naming: 0.3, stage: *stage}
"""
