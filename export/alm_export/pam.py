"""Export of PAM: CLAP's audio tower, and the vectors of pairs of texts that say what good and bad sound is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import yaml

from alm.errors import ExportError
from alm.models.pam import Pam as PackagedPam
from alm.package import EmbeddingSpace, PromptPair
from alm_export.sound_space import SoundSpaceExporter, space_of
from alm_quantize.gate import Assignment
from alm_quantize.likeness import Float32, Likeness, median_cosine, order_agreement

TAKEN = frozenset({"file", "windows", "error"})
"""Columns that `alm score -o` writes beside those of the pairs."""
AUTHORS = PromptPair("quality", "the sound is clear and clean.", "the sound is noisy and with artifacts.")
"""The authors' pair (soham97/PAM)."""
NAME = re.compile("[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")


class PamExporter(SoundSpaceExporter):
    """An export of PAM, held against the vectors of PyTorch float32 and the order its scores put recordings in."""

    family = "pam"
    options = ("prompts",)
    summary = "Scores how good a recording sounds, from 0 to 1, without a reference."
    task = "audio-classification"
    parts: ClassVar = {"audio_encoder": "audio_encoder"}
    example = "alm score PACKAGE RECORDING.wav"

    @cached_property
    def pairs(self) -> tuple[PromptPair, ...]:
        """The prompt pairs, the authors' unless others were given."""
        given: str | None = self.request.options.get("prompts")
        return (AUTHORS,) if given is None else parse_prompts(given)

    def texts_to_store(self) -> dict[str, Float32]:
        """The unit vectors (pairs, 2, width) of the pairs, good first."""
        texts = [text for pair in self.pairs for text in (pair.good, pair.bad)]
        return {"pairs": self.written(texts).reshape(len(self.pairs), 2, -1)}

    def space(self) -> EmbeddingSpace:
        """The manifest's section."""
        return space_of(self.config, self.scale, stored=self.stored, pairs=self.pairs)

    def capabilities(self) -> tuple[str, ...]:
        """What the package can be asked to do."""
        return ("score", "embed")

    def measure(self, package: PackagedPam, schemes: Assignment) -> Likeness:
        """Hold a draft against PyTorch float32; of two clips the one with the larger margin scores higher."""
        good, bad = self.stored["pairs"][:, 0], self.stored["pairs"][:, 1]
        exact, heard = self.sounds(), self.packaged_sounds(package)
        ranking = order_agreement((good - bad) @ heard.T, (good - bad) @ exact.T)
        return Likeness(schemes, {"audio_encoder": median_cosine(heard, exact)}, ranking, {})


def parse_prompts(given: str) -> tuple[PromptPair, ...]:
    """Pairs from 'good;bad', or from a YAML file: a list of {name, good, bad}. ExportError for anything else."""
    if ";" in given:
        parts = [part.strip() for part in given.split(";")]
        return _checked(
            [{"name": "quality", **dict(zip(("good", "bad"), parts, strict=False))}], given, len(parts) == 2
        )
    try:
        listed = yaml.safe_load(Path(given).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ExportError(
            f"--prompts {given} is neither 'good;bad' nor a YAML file that can be read: {error}"
        ) from error
    return _checked(listed, given, isinstance(listed, list) and bool(listed))


def _checked(listed: Sequence[Any], given: str, plausible: bool) -> tuple[PromptPair, ...]:
    def fits(item: Any) -> bool:
        words = isinstance(item, dict) and item.keys() == {"name", "good", "bad"}
        return words and all(isinstance(text, str) and text.strip() for text in item.values())

    if not plausible or not all(fits(item) and NAME.fullmatch(item["name"]) for item in listed):
        raise ExportError(
            f"--prompts {given}: expected 'good;bad', or a YAML list of pairs with name (letters, digits, _.+-), good "
            "and bad"
        )
    pairs = tuple(PromptPair(item["name"], item["good"], item["bad"]) for item in listed)
    if len({pair.name for pair in pairs}) < len(pairs):
        raise ExportError(f"--prompts {given}: two pairs have the same name")
    if taken := sorted(TAKEN & {pair.name for pair in pairs}):
        raise ExportError(f"--prompts {given}: results have another column {taken[0]!r}; give that pair another name")
    return pairs
