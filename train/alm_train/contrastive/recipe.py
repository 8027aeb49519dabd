"""The recipe of a small CLAP: a YAML file, checked in full before anything is computed."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from alm_train.models.clap import ClapConfig
from alm_train.models.gpt2 import GPT2Config
from alm_train.models.htsat import HTSATConfig
from alm_train.recipe import Section, StageSection, StepsSection, TaughtDataSection, TaughtRecipe, read_section


class ClapDataSection(TaughtDataSection):
    """Which clips are trained on and held out."""

    held_out_per_group: int = Field(ge=0)
    """Classes of each ESC-50 group, first in alphabetical order, that no training clip or its words may be of."""
    ranked: tuple[str, ...]
    """Further corpora of `data.measured` whose clips, once spoilt, must score lower; nothing of them is trained on."""
    spoilt: int = Field(gt=0)
    """Spoilt copies kept of each training clip."""


class TextSection(Section):
    """Shape of the text tower and its vocabulary; see `GPT2Config`."""

    vocabulary: int = Field(ge=300)
    width: int = Field(gt=0)
    layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    max_positions: int = Field(gt=0)
    dropout: float = Field(ge=0, lt=1)
    tokens: int = Field(gt=4)
    """Longest text, its suffix included."""


class ReadingSection(StepsSection):
    """The stage that reads: pairs of texts, no sound."""

    batch: int = Field(gt=9)


class HearingSection(Section):
    """The stage that hears: the audio tower learns to point where the text tower points."""

    stage: StageSection
    pairs: int = Field(gt=0)
    """Clean clips in a batch, each beside a spoilt copy."""
    quality: float = Field(ge=0)
    """Weight of telling clean from spoilt."""
    answers: float = Field(ge=0, le=1)
    """Share of the targets that comes from the teacher's probabilities."""
    features: float = Field(ge=0)
    """Weight of imitating the teacher's last feature map."""
    naming: float = Field(ge=0)
    """Weight of the encoder's own tagging head."""


class ClapRecipe(TaughtRecipe):
    """A whole run."""

    data: ClapDataSection
    text: TextSection
    embedding: int = Field(gt=0)
    """Size of the shared space."""
    reading: ReadingSection
    hearing: HearingSection

    def clap(self, classes: int, vocabulary: int, pad_id: int) -> ClapConfig:
        """The model of this recipe for the classes it hears and its tokenizer."""
        encoder = self.encoder.model_dump(exclude={"samples"})
        text = self.text.model_dump(exclude={"tokens", "vocabulary"})
        return ClapConfig(
            encoder=HTSATConfig(frontend=self.frontend, classes=classes, **encoder),
            text=GPT2Config(vocabulary=vocabulary, **text),
            embedding=self.embedding,
            text_tokens=self.text.tokens,
            pad_id=pad_id,
        )


def read_clap_recipe(path: Path) -> ClapRecipe:
    """Read and check a recipe; RecipeError names every entry that is wrong."""
    return read_section(path, ClapRecipe)
