"""What the recipes of all families are made of: YAML files, checked in full before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from alm.errors import AlmError
from alm_train.augment import Augmentation
from alm_train.loop import Schedule
from alm_train.models.frontend import FrontendConfig

AnySection = TypeVar("AnySection", bound="Section")


class RecipeError(AlmError):
    """A recipe cannot be read or asks for something impossible."""


class Section(BaseModel):
    """Part of a recipe: no unknown entries, nothing changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ClipsSection(Section):
    """Which clips are taken, and how fast they are played."""

    corpora: tuple[str, ...]
    """Corpus folders under the data folder."""
    per_source: int = Field(gt=0)
    """Most clips taken of one source."""
    synthetic: int = Field(ge=0)
    """Training clips of each synthetic sound."""
    speeds: tuple[float, ...]
    """Playback speeds of the training views; the first is 1."""


class TaughtDataSection(ClipsSection):
    """Which clips are trained on and held out."""

    synthetic_held_out: int = Field(ge=0)
    """Held-out clips of each synthetic sound."""
    per_class: int = Field(gt=0)
    """Clips of each class in one epoch: the rare ones come more than once, the common ones in turn."""


class TeacherSection(Section):
    """The convolutional tagger."""

    width: int = Field(gt=0)
    dropout: float = Field(ge=0, lt=1)


class StageSection(Section):
    """Schedule of one stage, in epochs; see `loop.Schedule`."""

    epochs: int = Field(gt=0)
    batch: int = Field(gt=1)
    learning_rate: float = Field(gt=0)
    warmup_epochs: float = Field(ge=0)
    weight_decay: float = Field(ge=0)
    average: float = Field(ge=0, lt=1)
    gradient_clip: float = Field(gt=0)
    validate_epochs: int = Field(gt=0)

    def schedule(self, epoch_steps: int, seed: int, checkpoint_seconds: float) -> Schedule:
        """In optimiser steps."""
        return Schedule(
            steps=self.epochs * epoch_steps,
            learning_rate=self.learning_rate,
            warmup_steps=round(self.warmup_epochs * epoch_steps),
            weight_decay=self.weight_decay,
            average=self.average,
            gradient_clip=self.gradient_clip,
            seed=seed,
            checkpoint_seconds=checkpoint_seconds,
            validate_steps=self.validate_epochs * epoch_steps,
        )


class StepsSection(Section):
    """Schedule of one stage, in steps; see `loop.Schedule`."""

    steps: int = Field(gt=0)
    batch: int = Field(gt=1)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    weight_decay: float = Field(ge=0)
    average: float = Field(ge=0, lt=1)
    gradient_clip: float = Field(gt=0)
    validate_steps: int = Field(gt=0)

    def schedule(self, seed: int, checkpoint_seconds: float) -> Schedule:
        """As the loop takes it."""
        return Schedule(seed=seed, checkpoint_seconds=checkpoint_seconds, **self.model_dump(exclude={"batch"}))


class AugmentationSection(Section):
    """See `augment.Augmentation`."""

    mixup: float = Field(ge=0)
    background: float = Field(ge=0, le=1)
    background_db: tuple[float, float]
    gain_db: float = Field(ge=0)
    equaliser_db: float = Field(ge=0)
    lowpass: float = Field(ge=0, le=1)
    time_masks: int = Field(ge=0)
    time_width: int = Field(ge=0)
    mel_masks: int = Field(ge=0)
    mel_width: int = Field(ge=0)

    def settings(self) -> Augmentation:
        """As the augmenter takes it."""
        return Augmentation(**self.model_dump())


class EncoderSection(Section):
    """Shape of HTS-AT; see `HTSATConfig`."""

    samples: int = Field(gt=0)
    frames: int = Field(gt=0)
    fold: int = Field(gt=0)
    patch: tuple[int, int]
    width: int = Field(gt=0)
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int = Field(gt=0)
    drop_path: float = Field(ge=0, lt=1)


class RunSection(Section):
    """What every recipe begins with."""

    name: str
    seed: int
    threads: int = Field(gt=0)
    checkpoint_seconds: float = Field(gt=0)


class TaughtRecipe(RunSection):
    """A run whose encoder is guided by a teacher."""

    data: TaughtDataSection
    encoder: EncoderSection
    augmentation: AugmentationSection
    teacher: TeacherSection
    teaching: StageSection

    @property
    def frontend(self) -> FrontendConfig:
        """Waveform to log-mel."""
        return FrontendConfig(samples=self.encoder.samples)


def read_section(path: Path, kind: type[AnySection]) -> AnySection:
    """Read and check a recipe of the family whose entries `kind` lists."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path} cannot be read as YAML: {error}") from error
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise RecipeError(f"{path} is not a recipe: {wrong}") from error
