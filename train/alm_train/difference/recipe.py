"""The recipe of a small ADIFF: a YAML file, checked in full before anything is computed."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from tokenizers import Tokenizer

from alm_train.models.adiff import AdiffConfig
from alm_train.models.clap import SUFFIX
from alm_train.models.gpt2 import GPT2Config
from alm_train.models.htsat import HTSATConfig
from alm_train.recipe import AugmentationSection, ClipsSection, RunSection, Section, StepsSection, read_section
from alm_train.tokenizer import pad_id


class PairDataSection(ClipsSection):
    """Which clips are trained on and held out."""

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


class DifferenceRecipe(RunSection):
    """A whole run."""

    mellow: str
    """Weights of the Mellow whose audio encoder is used, as `load_weights` takes them."""
    data: PairDataSection
    augmentation: AugmentationSection
    explainer: ExplainerSection
    writing: StepsSection
    """First stage: the language model alone."""
    grounding: StepsSection
    """Second stage: everything but the language model."""
    joining: StepsSection
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
