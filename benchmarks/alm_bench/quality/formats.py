"""Rows of published task files as items.

Sources: Audio Entailment (microsoft/AudioEntailment, arXiv 2407.18062), ReasonAQA (soham97/mellow, arXiv 2503.08540),
ADIFF (soham97/ADIFF, arXiv 2502.04476), MMAU (Sakshi113/MMAU, arXiv 2410.19168), Clotho 2.1 and AudioCaps 1.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from string import ascii_lowercase
from typing import Any

from pydantic import BaseModel, Field, field_validator, model_validator

from alm_bench.quality.items import Item

Rows = Sequence[Mapping[str, Any]]

LABELS = ("entailment", "neutral", "contradiction")

SENTINELS = {
    "explain the difference in few words": "explain the difference between the two audios in few words.",
    "explain the difference in a sentence": "explain the difference between the two audios in one extended sentence.",
    "explain the difference in detail": "explain the difference between the two audios in detail.",
    "caption first audio": "caption the audio",
}
"""Inputs that stand for a task, and what the authors ask for each in evaluation (mellow, branch `training`)."""

TIERS = {
    "explain the difference in few words": "1",
    "explain the difference in a sentence": "2",
    "explain the difference in detail": "3",
}
"""Difference tiers by input (ADIFF)."""

DIFFERENCE_SETS = {"audiocaps": "ACD", "clothov21": "CLD"}

LETTERED = re.compile(r"(?:^|\s)([a-h])\)\s*")
"""Where an option begins: `a) dog b) rain`."""


class EntailmentRow(BaseModel):
    """A clip with one hypothesis per label."""

    dataset: str = Field(alias="Dataset")
    audio: str = Field(alias="Audio file", min_length=1)
    entailment: str = Field(alias="Entailment", min_length=1)
    neutral: str = Field(alias="Neutral", min_length=1)
    contradiction: str = Field(alias="Contradiction", min_length=1)


def entailment(name: str, rows: Rows) -> Iterator[Item]:
    """Three examples per row. The file named `development` is where the supervised protocol fits."""
    split = "fit" if "development" in name else "test"
    for number, raw in enumerate(rows):
        row = EntailmentRow.model_validate(raw)
        group = {"Audiocaps": "ACE", "ClothoV2": "CLE"}.get(row.dataset, row.dataset)
        for label in LABELS:
            hypothesis = getattr(row, label)
            yield Item(f"{name}:{number}:{label}", "entailment", group, (row.audio,), hypothesis, (label,), split)


class ReasonRow(BaseModel):
    """A question of ReasonAQA, or a difference of ADIFF, whose files lack `subtype`."""

    taskname: str
    filepath1: str = Field(min_length=1)
    filepath2: str = ""
    input: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    subtype: str = ""

    @field_validator("filepath2", mode="before")
    @classmethod
    def _absent(cls, value: object) -> object:
        return "" if value is None else value

    @property
    def task(self) -> str:
        """Which task the question belongs to, told by its content: the names of subtypes differ between releases."""
        if self.filepath2:
            return "difference"
        if self.input.strip().lower().startswith("caption"):
            return "caption"
        if self.subtype.startswith(("CLE", "ACE", "entailment")) or "definitely true" in self.input.lower():
            return "entailment"
        return "mcq" if self.rule else "detail"

    @property
    def rule(self) -> str:
        """How the answer is compared: by `letter`, as a `word`, or not at all."""
        if re.match(r"[a-h]\)", self.answer.strip().lower()):
            return "letter"
        return "word" if self.answer.strip().lower() in ("yes", "no", "maybe") else ""


def reason_aqa(name: str, rows: Rows) -> Iterator[Item]:
    """One example per row; the captions of a clip become one example with several references."""
    captions: dict[tuple[str, str], list[ReasonRow]] = {}
    for number, raw in enumerate(rows):
        row = ReasonRow.model_validate(raw)
        group = row.subtype.removesuffix(".json") or _difference_group(row)
        if row.task == "caption":
            captions.setdefault((group, row.filepath1), []).append(row)
            continue
        audio = tuple(path for path in (row.filepath1, row.filepath2) if path)
        text = SENTINELS.get(row.input.strip().lower(), row.input)
        yield Item(f"{name}:{number}", row.task, group, audio, text, (row.answer,), rule=row.rule)
    for (group, audio_name), found in captions.items():
        text = SENTINELS.get(found[0].input.strip().lower(), found[0].input)
        references = tuple(row.answer for row in found)
        yield Item(f"{name}:{group}:{audio_name}", "caption", group, (audio_name,), text, references)


def _difference_group(row: ReasonRow) -> str:
    tier = TIERS.get(row.input.strip().lower())
    known = DIFFERENCE_SETS.get(row.taskname, row.taskname)
    return known if tier is None else f"{known}-{tier}"


class MmauRow(BaseModel):
    """A question of MMAU."""

    id: str
    audio_id: str = Field(min_length=1)
    question: str = Field(min_length=1)
    choices: list[str] = Field(min_length=2, max_length=len(ascii_lowercase))
    answer: str
    task: str
    difficulty: str

    @model_validator(mode="after")
    def _answerable(self) -> MmauRow:
        if self.answer not in self.choices:
            raise ValueError(f"the answer {self.answer!r} is none of the choices")
        return self


def mmau(name: str, rows: Rows) -> Iterator[Item]:
    """The question as Mellow's authors put it: its last character replaced by `? `, the options inline, lower case."""
    for raw in rows:
        row = MmauRow.model_validate(raw)
        options = [f"{letter}) {choice}" for letter, choice in zip(ascii_lowercase, row.choices, strict=False)]
        text = f"{row.question[:-1]}? {' '.join(options)}".lower()
        answer = options[row.choices.index(row.answer)].lower()
        tags = (f"MMAU {row.task}", f"MMAU {row.difficulty}")
        yield Item(f"{name}:{row.id}", "mcq", "MMAU", (row.audio_id,), text, (answer,), rule="mmau", tags=tags)


class ClothoRow(BaseModel):
    """A clip with five captions."""

    file_name: str = Field(min_length=1)
    caption_1: str
    caption_2: str
    caption_3: str
    caption_4: str
    caption_5: str


def clotho(name: str, rows: Rows) -> Iterator[Item]:
    """One example with five references per clip."""
    for raw in rows:
        row = ClothoRow.model_validate(raw)
        references = (row.caption_1, row.caption_2, row.caption_3, row.caption_4, row.caption_5)
        yield Item(f"{name}:{row.file_name}", "caption", "Clotho", (row.file_name,), "caption the audio", references)


class AudioCapsRow(BaseModel):
    """A caption of a clip."""

    youtube_id: str = Field(min_length=1)
    caption: str


def audiocaps(name: str, rows: Rows) -> Iterator[Item]:
    """One example per clip with the captions of all its rows as references."""
    captions: dict[str, list[str]] = {}
    for raw in rows:
        row = AudioCapsRow.model_validate(raw)
        captions.setdefault(row.youtube_id, []).append(row.caption)
    for clip, references in captions.items():
        audio = (f"Y{clip}",)
        yield Item(f"{name}:{clip}", "caption", "AudioCaps", audio, "caption the audio", tuple(references))


def options_of(question: str) -> dict[str, str]:
    """The options of a question that has them inline, by letter: `{"a": "dog", "b": "rain"}`."""
    parts = LETTERED.split(question.lower())[1:]
    return {letter: text.strip() for letter, text in zip(parts[::2], parts[1::2], strict=True)}
