"""Export of CLAP: recordings and texts in one space."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from alm.errors import ExportError
from alm.models.clap import Clap as PackagedClap
from alm.package import EmbeddingSpace
from alm_export.sound_space import TEMPLATE, SoundSpaceExporter, space_of, text_layout
from alm_quantize.gate import Assignment
from alm_quantize.likeness import Float32, Likeness, median_cosine, order_agreement, right_labels
from alm_train.data.sounds import SOUNDS


class ClapExporter(SoundSpaceExporter):
    """An export of CLAP, held against the vectors of PyTorch float32 and the order they put texts in."""

    family = "clap"
    options = ("labels", "no_text")
    summary = "Compares recordings with texts: which of some labels fits, which recording a text describes."
    task = "zero-shot-audio-classification"
    parts: ClassVar = {"audio_encoder": "audio_encoder", "text_encoder": "decoder"}

    @property
    def reads_texts(self) -> bool:
        """Whether the text tower is part of the package."""
        return not self.request.options.get("no_text", False)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels to store. ExportError for a list that cannot be one."""
        path: Path | None = self.request.options.get("labels")
        if path is None:
            if not self.reads_texts:
                raise ExportError("without the text encoder a package needs labels: name a file with --labels")
            return ()
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise ExportError(f"--labels {path} cannot be read: {error}") from error
        labels = tuple(line for line in lines if line)
        if len(labels) < 2 or len(set(labels)) < len(labels):
            raise ExportError(
                f"--labels {path}: found {len(labels)} labels, expected at least two different ones a line"
            )
        return labels

    @property
    def example(self) -> str:  # type: ignore[override]
        """A command to try next."""
        return "alm classify PACKAGE RECORDING.wav" + ("" if self.labels else ' "a dog barking" "rain falling"')

    def texts_to_store(self) -> dict[str, Float32]:
        """The unit vectors (labels, width) of the labels in their template."""
        return {"labels": self.written([TEMPLATE.format(label) for label in self.labels])} if self.labels else {}

    def space(self) -> EmbeddingSpace:
        """The manifest's section."""
        text = text_layout(self.config) if self.reads_texts else None
        return space_of(self.config, self.scale, stored=self.stored, text=text, labels=self.labels)

    def capabilities(self) -> tuple[str, ...]:
        """What the package can be asked to do."""
        return ("classify", "embed", *(("similarity", "search") if self.reads_texts else ()))

    def measure(self, package: PackagedClap, schemes: Assignment) -> Likeness:
        """Hold a draft against PyTorch float32: the bundled clips and their labels in words, or its own labels."""
        texts = [TEMPLATE.format(SOUNDS[label].phrase) for label in self.bundled]
        exact, written = self.sounds(), self.written(texts)
        heard, read = self.packaged_sounds(package), written
        cosines = {"audio_encoder": median_cosine(heard, exact)}
        if self.reads_texts:
            read = package.embed_text(texts)
            cosines["text_encoder"] = median_cosine(read, written)
        own = np.arange(len(self.bundled))
        found, reference = heard @ read.T, exact @ written.T
        accuracy = {
            "accuracy": right_labels(found[: len(own)], own),
            "accuracy_fp32": right_labels(reference[: len(own)], own),
        }
        return Likeness(schemes, cosines, order_agreement(found, reference), accuracy)
