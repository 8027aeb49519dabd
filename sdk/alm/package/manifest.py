"""manifest.json: everything a program must know about a package before it touches an engine."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from alm.errors import EngineError, PackageError
from alm.package.archive import MANIFEST
from alm.package.schema import Between, decode, found, parse_json
from alm.package.sections import (
    Component,
    DecoderShape,
    EmbeddingSpace,
    Entry,
    EntryName,
    Frontend,
    GenerationDefaults,
    GoldenInfo,
    MapperInfo,
    ModelInfo,
    PromptLayout,
    Variant,
    WeightsInfo,
    Word,
)

T = TypeVar("T")

SCHEMA = 2
"""The manifest schema that this version writes."""
OLDER: dict[int, dict[str, Any]] = {1: {"variants": {}}}
"""Older schemas that it reads too, and what the fields that they lack stand for."""

GOLDEN = "golden.npz"
"""Name of the entry that holds the self-test."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The whole of manifest.json. `write_package` fills `entries`; a caller leaves it empty.

    Sections that are None by default belong to some families only; JSON leaves them out.
    """

    model: ModelInfo
    """Which model."""
    weights: WeightsInfo
    """Which weights, under which licence."""
    target: Word
    """Device profile the package was exported for."""
    scheme: Word
    """Name of the scheme asked for; each component states its own."""
    frontend: Frontend
    """The clip the encoder takes."""
    prompt: PromptLayout | None = None
    """How the prefix is laid out."""
    mapper: MapperInfo | None = None
    """How the prefix comes about where it is not laid out row by row; `prompt` then tells of the question only."""
    generation: GenerationDefaults | None = None
    """How an answer ends."""
    decoder: DecoderShape | None = None
    """Sizes of the decoder."""
    embedding: EmbeddingSpace | None = None
    """Where sounds and texts are compared."""
    components: dict[Word, Component]
    """Exported graphs by name."""
    capabilities: tuple[Word, ...]
    """What the model can be asked to do: "ask", "compare", "choose", …"""
    golden: GoldenInfo
    """Tolerances of the self-test."""
    quality: dict[str, Any]
    """Quality measured by the exporter, any JSON."""
    provenance: dict[str, Any]
    """Tool versions, time and sources, any JSON."""
    variants: dict[Word, Variant] = field(default_factory=dict)
    """The model on other engines, by the engine's name."""
    entries: dict[EntryName, Entry] = field(default_factory=dict)
    """Every entry of the package except manifest.json."""
    schema: Annotated[int, Between(SCHEMA, SCHEMA)] = SCHEMA
    """Version of this layout."""

    @property
    def engine(self) -> str:
        """The engine that `components` are for: the decoder's, where a decoder is among them."""
        return (self.components.get("decoder") or next(iter(self.components.values()))).engine

    @property
    def engines(self) -> tuple[str, ...]:
        """Every engine that the package can be loaded with; the first is the one it is loaded with unless asked."""
        return (self.engine, *self.variants)

    @property
    def distinct_components(self) -> tuple[tuple[str, Component], ...]:
        """Name and component, each once, over all engines."""
        sets = (self.components, *(variant.components for variant in self.variants.values()))
        return tuple(dict.fromkeys(pair for components in sets for pair in components.items()))

    @property
    def required_entries(self) -> set[str]:
        """Names of the entries that the manifest itself refers to."""
        own = {GOLDEN} | ({self.embedding.vectors} if self.embedding and self.embedding.vectors else set())
        return own.union(*((part.graph, *part.weights) for _, part in self.distinct_components))

    def for_engine(self, name: str | None) -> Manifest:
        """The manifest with `name` as its first engine; None keeps the package's own. EngineError lists the engines."""
        if name is None or name == self.engine:
            return self
        if name not in self.variants:
            raise EngineError(
                f"the package was exported for {' and '.join(self.engines)}, not for {name!r}; load it with "
                f"engine={self.engine!r} or export it for {name!r}"
            )
        chosen = self.variants[name]
        variants = {self.engine: Variant(self.components, self.golden), **self.variants}
        del variants[name]
        return dataclasses.replace(self, components=chosen.components, golden=chosen.golden, variants=variants)

    @classmethod
    def from_json(cls, text: bytes | str) -> Manifest:
        """Parse and check a manifest; raises PackageError naming the field, what was found and expected."""
        value = parse_json(text, MANIFEST)
        if not isinstance(value, dict):
            raise PackageError(f"{MANIFEST}: found {found(value)}, expected an object")
        schema = _checked_schema(value.get("schema"))
        if schema in OLDER:
            if odd := sorted(value.keys() & OLDER[schema].keys()):
                raise PackageError(f"{MANIFEST}: found the field {odd[0]!r}, which schema {schema} does not have")
            value = {**value, **OLDER[schema], "schema": SCHEMA}
        manifest = decode(cls, value, MANIFEST)
        _check_consistent(manifest)
        return manifest

    def to_json(self) -> bytes:
        """UTF-8 JSON with sorted keys: equal manifests, equal bytes. Raises PackageError if not valid."""
        try:
            fields = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
            text = json.dumps(fields, ensure_ascii=False, allow_nan=False, indent=1, sort_keys=True)
        except (TypeError, ValueError, RecursionError) as error:
            raise PackageError(f"{MANIFEST} cannot be written as JSON: {error}") from None
        data = f"{text}\n".encode(errors="surrogatepass")
        Manifest.from_json(data)
        return data


def section(value: T | None, name: str) -> T:
    """A section of the manifest that the model's family cannot do without; PackageError when it is None."""
    if value is None:
        raise PackageError(f"{MANIFEST} has no section {name!r}, which a model of this family needs; export it again")
    return value


def _checked_schema(schema: Any) -> int:
    known = [*OLDER, SCHEMA]
    if isinstance(schema, int) and not isinstance(schema, bool):
        if schema in known:
            return schema
        if schema > SCHEMA:
            raise PackageError(
                f"{MANIFEST}.schema: found {found(schema)}, this version reads up to {SCHEMA}: the package was made by "
                "a newer alm-edge; update with: pip install --upgrade alm-edge"
            )
    raise PackageError(f"{MANIFEST}.schema: found {found(schema)}, expected one of {', '.join(map(str, known))}")


def _check_engines(manifest: Manifest) -> None:
    if not manifest.components:
        raise PackageError(f"{MANIFEST}.components: found none, expected at least one")
    for name, variant in manifest.variants.items():
        where = f"{MANIFEST}.variants[{name!r}]"
        if variant.components.keys() != manifest.components.keys():
            raise PackageError(
                f"{where}.components: found {', '.join(sorted(variant.components)) or 'none'}, "
                f"expected those of the package: {', '.join(sorted(manifest.components))}"
            )
        if name == manifest.engine:
            raise PackageError(f"{where}: {name!r} is the engine of the package's own components already")
        if (found_engine := manifest.for_engine(name).engine) != name:
            raise PackageError(f"{where}: found components for {found_engine!r}, expected {name!r}")


def _check_consistent(manifest: Manifest) -> None:
    _check_engines(manifest)
    prompt, generation, decoder = manifest.prompt, manifest.generation, manifest.decoder
    tokens: dict[str, int] = {}
    if prompt is not None:
        tokens |= {"prompt.separator_id": prompt.separator_id, "prompt.pad_id": prompt.pad_id}
    if generation is not None:
        tokens |= {"generation.stop_id": generation.stop_id}
    for name, token in tokens.items():
        if decoder is not None and token >= decoder.vocabulary:
            raise PackageError(
                f"{MANIFEST}.{name}: found {token}, expected less than the vocabulary of {decoder.vocabulary}"
            )
    if generation and decoder and generation.max_positions > decoder.max_positions:
        raise PackageError(
            f"{MANIFEST}.generation.max_positions: found {generation.max_positions}, "
            f"expected at most decoder.max_positions = {decoder.max_positions}"
        )
    if prompt and generation and prompt.prefix_tokens >= generation.max_positions:
        raise PackageError(
            f"{MANIFEST}.generation.max_positions: found {generation.max_positions}, "
            f"expected more than the prefix of {prompt.prefix_tokens} tokens"
        )
    if manifest.mapper and generation and manifest.mapper.tokens >= generation.max_positions:
        raise PackageError(
            f"{MANIFEST}.generation.max_positions: found {generation.max_positions}, "
            f"expected more than the prefix of {manifest.mapper.tokens} tokens"
        )
    if manifest.embedding is not None:
        _check_embedding(manifest.embedding)


def _check_embedding(space: EmbeddingSpace) -> None:
    where = f"{MANIFEST}.embedding"
    if space.text is not None and space.text.pad_id >= space.text.vocabulary:
        raise PackageError(
            f"{where}.text.pad_id: found {space.text.pad_id}, expected less than the vocabulary of "
            f"{space.text.vocabulary}"
        )
    if "{}" not in space.template:
        raise PackageError(f"{where}.template: found {found(space.template)}, expected a text with {{}} in it")
    if (space.vectors is None) == bool(space.labels or space.pairs):
        raise PackageError(
            f"{where}: found {len(space.labels)} labels, {len(space.pairs)} pairs and the entry {space.vectors!r}; "
            "the entry is there exactly when there are labels or pairs"
        )
    names = [pair.name for pair in space.pairs]
    for kind, given in (("label", list(space.labels)), ("name of a pair", names)):
        if repeated := next((name for name in given if given.count(name) > 1), None):
            raise PackageError(f"{where}: the {kind} {found(repeated)} occurs twice")
