"""The recipe of a captioner: a YAML file, checked in full before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from alm_train.models.clap import ClapConfig
from alm_train.models.clapcap import ClapCapConfig
from alm_train.models.gpt2 import GPT2Config
from alm_train.recipe import AugmentationSection, ClipsSection, RunSection, Section, StepsSection, read_section


class WriterSection(Section):
    """Shape of the mapper and the language model; see `ClapCapConfig` and `GPT2Config`."""

    width: int = Field(gt=0)
    layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    max_positions: int = Field(gt=0)
    dropout: float = Field(ge=0, lt=1)
    prefix_tokens: int = Field(gt=0)
    mapper_layers: int = Field(gt=0)
    mapper_heads: int = Field(gt=0)


class BridgeSection(Section):
    """What a text embedding goes through in training, so that an audio embedding can take its place afterwards."""

    noise: float = Field(ge=0)
    """Standard deviation of Gaussian noise in each dimension of the unit embedding (arXiv 2309.07372 uses 0.015 in
    1024 dimensions); the mapper normalises the sum again."""


class HeardSection(ClipsSection):
    """Which clips are heard and held out."""

    synthetic_held_out: int = Field(ge=0)
    """Held-out clips of each synthetic sound."""
    held_out_per_group: int = Field(ge=0)
    """Classes of each ESC-50 group that are not heard, by the rule of the CLAP whose towers are used."""
    views: int = Field(gt=0)
    """Augmented views of each clip whose embeddings are kept."""
    per_class: int = Field(gt=0)
    """Embeddings of each class, whatever the corpora hold of it."""
    augmentation: AugmentationSection


class GroundingSection(Section):
    """The second stage: the writer goes on with embeddings of recordings."""

    data: HeardSection
    noise: float = Field(ge=0)
    """As `BridgeSection.noise`, on embeddings of clips."""
    share: float = Field(gt=0, le=1)
    """Share of a batch that is heard; the rest is read as in the first stage."""
    writing: StepsSection


class CaptionerRecipe(RunSection):
    """A whole run."""

    clap: str
    """Weights of the CLAP whose towers are used, as `load_weights` takes them."""
    style: Literal["plain", "humorous", "uplifting"]
    """Whose captions are learned."""
    caption_tokens: int = Field(gt=4)
    """Longest caption, its end included; a longer one is cut."""
    bridge: BridgeSection
    writer: WriterSection
    writing: StepsSection
    """The stage that reads and writes."""
    grounding: GroundingSection | None = None
    """The stage that hears and writes; without it no recording is heard in training."""

    def captioner(self, clap: ClapConfig, stop_id: int) -> ClapCapConfig:
        """The model of this recipe beside a CLAP, whose tokenizer it shares."""
        shape = self.writer.model_dump(exclude={"prefix_tokens", "mapper_layers", "mapper_heads"})
        return ClapCapConfig(
            encoder=clap.encoder,
            decoder=GPT2Config(vocabulary=clap.text.vocabulary, **shape),
            embedding=clap.embedding,
            prefix_tokens=self.writer.prefix_tokens,
            mapper_layers=self.writer.mapper_layers,
            mapper_heads=self.writer.mapper_heads,
            pad_id=clap.pad_id,
            stop_id=stop_id,
        )


def read_captioner_recipe(path: Path) -> CaptionerRecipe:
    """Read and check a recipe; RecipeError names every entry that is wrong."""
    return read_section(path, CaptionerRecipe)
