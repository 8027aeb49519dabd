"""The `.alm` package: one file with a model, its tokenizer, its self-test and its papers.

`archive` knows the container, `manifest` and its `sections` the contents, `reader` and `writer` the file, `safetensors`
the weights, `signature` who made it.
"""

from __future__ import annotations

from alm.package.manifest import GOLDEN, Manifest, section
from alm.package.reader import Package
from alm.package.sections import (
    Component,
    DecoderShape,
    EmbeddingSpace,
    Entry,
    Frontend,
    GenerationDefaults,
    GoldenInfo,
    MapperInfo,
    ModelInfo,
    PromptLayout,
    PromptPair,
    TextLayout,
    Variant,
    WeightsInfo,
)
from alm.package.writer import write_package

__all__ = [
    "GOLDEN",
    "Component",
    "DecoderShape",
    "EmbeddingSpace",
    "Entry",
    "Frontend",
    "GenerationDefaults",
    "GoldenInfo",
    "Manifest",
    "MapperInfo",
    "ModelInfo",
    "Package",
    "PromptLayout",
    "PromptPair",
    "TextLayout",
    "Variant",
    "WeightsInfo",
    "section",
    "write_package",
]
