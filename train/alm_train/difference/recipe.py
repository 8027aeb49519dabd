"""The recipe of a small ADIFF: a YAML file, checked in full before anything is computed."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from tokenizers import Tokenizer

from alm_train.loop import Schedule
from alm_train.models.adiff import AdiffConfig
from alm_train.models.clap import SUFFIX
from alm_train.models.gpt2 import GPT2Config
from alm_train.models.htsat import HTSATConfig
from alm_train.recipe import AugmentationSection, Section, read_section
from alm_train.tokenizer import pad_id


class PairDataSection(Section):
    """Which clips are trained on and held out."""

    corpora: tuple[str, ...]
    """Corpus folders under the data folder."""
    per_source: int = Field(gt=0)
    """Most clips taken of one source."""
    synthetic: int = Field(ge=0)
    """Training clips of each synthetic sound."""
    speeds: tuple[float, ...]
    """Playback speeds of the training views; the first is 1."""
    views: int = Field(gt=0)
    """Views of each clip whose embeddings are kept; the first is as recorded, the others are augmented."""


class ExplainerSection(Section):
    """Shape of everything behind the audio encoder; see `AdiffConfig` and `GPT2Config`."""

    vocabulary: int = Field(ge=300)
    embedding: int = Field(gt=0)
    width: int = Field(gt=0)
    layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    max_positions: int = Field(gt=0)
    dropout: float = Field(ge=0, lt=1)
    slot_tokens: int = Field(gt=0)
    mapper_layers: int = Field(gt=0)
    mapper_heads: int = Field(gt=0)
    cross_layers: int = Field(gt=0)
    cross_heads: int = Field(gt=0)


class LearningSection(Section):
    """Schedule of one stage."""

    steps: int = Field(gt=0)
    batch: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    weight_decay: float = Field(ge=0)
    average: float = Field(ge=0, lt=1)
    gradient_clip: float = Field(gt=0)
    validate_steps: int = Field(gt=0)

    def schedule(self, seed: int, checkpoint_seconds: float) -> Schedule:
        """As the loop takes it."""
        return Schedule(seed=seed, checkpoint_seconds=checkpoint_seconds, **self.model_dump(exclude={"batch"}))


class DifferenceRecipe(Section):
    """A whole run."""

    name: str
    seed: int
    threads: int = Field(gt=0)
    checkpoint_seconds: float = Field(gt=0)
    mellow: str
    """Weights of the Mellow whose audio encoder is used, as `load_weights` takes them."""
    data: PairDataSection
    augmentation: AugmentationSection
    explainer: ExplainerSection
    writing: LearningSection
    """First stage: the language model alone."""
    grounding: LearningSection
    """Second stage: everything but the language model."""
    joining: LearningSection
    """Third stage: everything behind the audio encoder."""

    def adiff(self, encoder: HTSATConfig, tokenizer: Tokenizer) -> AdiffConfig:
        """The model of this recipe behind an audio encoder."""
        shape = self.explainer
        decoder = GPT2Config(
            vocabulary=tokenizer.get_vocab_size(),
            **shape.model_dump(include={"width", "layers", "heads", "max_positions", "dropout"}),
        )
        stop_id, separator_id = tokenizer.encode(SUFFIX).ids
        return AdiffConfig(
            encoder=encoder,
            decoder=decoder,
            separator_id=separator_id,
            pad_id=pad_id(tokenizer),
            stop_id=stop_id,
            **shape.model_dump(
                include={"embedding", "slot_tokens", "mapper_layers", "mapper_heads", "cross_layers", "cross_heads"}
            ),
        )


def read_difference_recipe(path: Path) -> DifferenceRecipe:
    """Read and check a recipe; RecipeError names every entry that is wrong."""
    return read_section(path, DifferenceRecipe)
