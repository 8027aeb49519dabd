"""The `.alm` package: one file with a model, its tokenizer, its self-test and its papers.

`archive` knows the container, `manifest` the contents, `reader` and `writer` the file, `safetensors`
the weights, `signature` who made it.
"""

from __future__ import annotations

from alm.package.manifest import (
    GOLDEN,
    Component,
    DecoderShape,
    EmbeddingSpace,
    Entry,
    Frontend,
    GenerationDefaults,
    GoldenInfo,
    Manifest,
    MapperInfo,
    ModelInfo,
    PromptLayout,
    PromptPair,
    TextLayout,
    Variant,
    WeightsInfo,
    section,
)
from alm.package.reader import Package
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
