"""The recipe of a small Mellow: a YAML file, checked in full before anything is computed."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from alm_train.models.htsat import HTSATConfig
from alm_train.models.mellow import MellowConfig
from alm_train.models.smollm2 import SmolLM2Config
from alm_train.recipe import AugmentationSection, Section, StageSection, TaughtRecipe, read_section


class GuidanceSection(Section):
    """How much of the encoder's loss comes from the teacher."""

    answers: float = Field(ge=0, le=1)
    """Share of the cross-entropy taken against the teacher's probabilities instead of the labels."""
    features: float = Field(ge=0)
    """Weight of imitating the teacher's last feature map."""


class DecoderSection(Section):
    """Shape of the decoder; see `SmolLM2Config`."""

    vocabulary: int = Field(ge=300)
    width: int = Field(gt=0)
    hidden: int = Field(gt=0)
    layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    max_positions: int = Field(gt=0)


class AnsweringSection(Section):
    """The stage that learns to answer, with the encoder frozen."""

    stage: StageSection
    epoch_questions: int = Field(gt=0)
    """Questions that count as one epoch."""
    growth_epochs: int = Field(gt=0)
    """Epochs until questions are about every sound; see `learning.lesson_at`."""
    views: int = Field(gt=0)
    """Augmented views of each clip whose encoder outputs are kept."""
    prompt_tokens: int = Field(gt=0)
    """Places for the question."""
    answer_tokens: int = Field(gt=0)
    """Longest answer."""
    augmentation: AugmentationSection


class EvaluationSection(Section):
    """How much is asked about the held-out clips."""

    rounds: int = Field(gt=0)
    """Times each clip is asked each type of question, with other words and options."""


class MellowRecipe(TaughtRecipe):
    """A whole run."""

    decoder: DecoderSection
    guidance: GuidanceSection
    tagging: StageSection
    answering: AnsweringSection
    evaluation: EvaluationSection

    def mellow(self, classes: int, pad_id: int) -> MellowConfig:
        """The model of this recipe for a number of classes and a tokenizer's pad token."""
        encoder = self.encoder.model_dump(exclude={"samples"})
        return MellowConfig(
            encoder=HTSATConfig(frontend=self.frontend, classes=classes, **encoder),
            decoder=SmolLM2Config(**self.decoder.model_dump()),
            repeat=1,
            prompt_tokens=self.answering.prompt_tokens,
            pad_id=pad_id,
        )


def read_mellow_recipe(path: Path) -> MellowRecipe:
    """Read and check a recipe; RecipeError names every entry that is wrong."""
    return read_section(path, MellowRecipe)
