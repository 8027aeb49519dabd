"""What the writer reads and writes: texts of one style, or plain ones under free licences.

A pair is a text that CLAP's text tower reads and the caption that is written for it; most often they are the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from alm_train.contrastive.captions import CLOTHO, ENTAILED, ontology_groups, read_table, styled_captions
from alm_train.contrastive.wording import TEMPLATES, label_texts
from alm_train.data.sounds import SOUNDS

HYPOTHESES = ("Entailment", "Neutral", "Contradiction")
"""Columns of AudioEntailment (MIT). Whether one is true of its clip does not matter here: no clip is heard."""
WORDINGS_REPEATED = 4
"""The wordings of the sounds are a third of the plain pairs then; each alone they would be a tenth."""

Pair = tuple[str, str]
"""What is read and what is written."""


def text_pairs(data: Path, style: str, split: str) -> list[Pair]:
    """Pairs of one style, `split` train or val. Raises DataError when a file is missing or lacks a column."""
    if style != "plain":
        return [(text, text) for text in styled_captions(data, style, split)]
    hypotheses = _hypotheses(data / ENTAILED / f"clotho_entailment_{CLOTHO[split]}.csv")
    pairs = [(text, text) for text in hypotheses]
    return pairs if split == "val" else pairs + _names(data) + WORDINGS_REPEATED * wordings(SOUNDS)


def wordings(labels: Iterable[str]) -> list[Pair]:
    """Every wording of each kind of sound, beside what a caption says of it."""
    return [(text, caption_of(label)) for label in labels for text in label_texts(label)]


def caption_of(label: str) -> str:
    """What a caption says of one kind of sound."""
    return SOUNDS[label].sentence


def _hypotheses(file: Path) -> list[str]:
    """Plain sentences about sounds, in lower case and without a full stop, each once."""
    texts = (row[column] for row in read_table(file, HYPOTHESES) for column in HYPOTHESES)
    return list(dict.fromkeys(text for raw in texts if (text := " ".join(raw.lower().split()).rstrip("."))))


def _names(data: Path) -> list[Pair]:
    """Every kind of sound in the AudioSet ontology by its name."""
    texts = (TEMPLATES[2].format(group[0]) for group in ontology_groups(data))
    return [(text, text) for text in texts]
