"""The recipe of a small CLAP: a YAML file, checked in full before anything is computed."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from alm_train.loop import Schedule
from alm_train.models.clap import ClapConfig
from alm_train.models.frontend import FrontendConfig
from alm_train.models.gpt2 import GPT2Config
from alm_train.models.htsat import HTSATConfig
from alm_train.recipe import AugmentationSection, EncoderSection, Section, StageSection, TeacherSection, read_section


class ClapDataSection(Section):
    """Which clips are trained on and held out."""

    corpora: tuple[str, ...]
    """Corpus folders under the data folder."""
    per_source: int = Field(gt=0)
    """Most clips taken of one source."""
    synthetic: int = Field(ge=0)
    """Training clips of each synthetic sound."""
    synthetic_held_out: int = Field(ge=0)
    """Held-out clips of each synthetic sound."""
    speeds: tuple[float, ...]
    """Playback speeds of the training views; the first is 1."""
    per_class: int = Field(gt=0)
    """Clips of each class in one epoch."""
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


class ReadingSection(Section):
    """The stage that reads: pairs of texts, no sound."""

    steps: int = Field(gt=0)
    batch: int = Field(gt=9)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    weight_decay: float = Field(ge=0)
    average: float = Field(ge=0, lt=1)
    gradient_clip: float = Field(gt=0)
    validate_steps: int = Field(gt=0)

    def schedule(self, seed: int, checkpoint_seconds: float) -> Schedule:
        """As the loop takes it."""
        return Schedule(seed=seed, checkpoint_seconds=checkpoint_seconds, **self.model_dump(exclude={"batch"}))


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


class ClapRecipe(Section):
    """A whole run."""

    name: str
    seed: int
    threads: int = Field(gt=0)
    checkpoint_seconds: float = Field(gt=0)
    data: ClapDataSection
    encoder: EncoderSection
    text: TextSection
    embedding: int = Field(gt=0)
    """Size of the shared space."""
    augmentation: AugmentationSection
    teacher: TeacherSection
    reading: ReadingSection
    teaching: StageSection
    hearing: HearingSection

    @property
    def frontend(self) -> FrontendConfig:
        """Waveform to log-mel."""
        return FrontendConfig(samples=self.encoder.samples)

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
