"""From a PyTorch model and an assignment of schemes to the entries of a package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from alm.errors import ExportError
from alm.package import Component
from alm.package.safetensors import write_tensors
from alm_export.audio_encoder import build_audio_encoder
from alm_export.decoder import build_decoder, build_token_embedding
from alm_export.graph import GraphBuilder
from alm_quantize.gate import Assignment
from alm_train.models.mellow import Mellow

ANSWER_ROOM = 300
"""Tokens of the longest answer, as the authors' examples allow."""


@dataclass(frozen=True)
class Components:
    """Everything of a package that an engine reads."""

    components: Mapping[str, Component]
    """By name, for the manifest."""
    entries: Mapping[str, bytes | Path]
    """Graphs and weights."""
    positions: int
    """Capacity of the KV buffer: prefix and longest answer."""


def build_components(model: Mellow, schemes: Assignment, engine: str, folder: Path) -> Components:
    """Build all graphs and write their weights below `folder`.

    The matrix of the token embedding is the head's too: one weights entry serves both components. ExportError when
    the prefix leaves no room for an answer.
    """
    positions = min(model.config.prefix_tokens + ANSWER_ROOM, model.config.decoder.max_positions)
    if positions <= model.config.prefix_tokens:
        raise ExportError(
            f"the decoder has {positions} positions and the prefix takes {model.config.prefix_tokens}: no room for an "
            "answer; use weights with a larger max_positions"
        )
    language = model.caption_decoder.lm
    embedding = build_token_embedding(language, schemes["head"])
    decoder = build_decoder(language, positions, schemes["decoder"], schemes["head"])
    shared = {name: decoder.tensors.pop(name) for name in embedding.tensors}
    encoder = build_audio_encoder(model, schemes["audio_encoder"])
    weights = {"audio_encoder": encoder.tensors, "token_embedding": shared, "decoder": decoder.tensors}
    places: dict[str, tuple[str, int, int]] = {}
    entries: dict[str, bytes | Path] = {}
    for name, tensors in weights.items():
        entry = f"{name}.safetensors"
        entries[entry] = folder / entry
        with (folder / entry).open("wb") as file:
            slots = write_tensors(file, tensors)
        places |= {tensor: (entry, slot.offset, slot.size) for tensor, slot in slots.items()}
        tensors.clear()  # the full-size decoder is half a gigabyte in float32
    components = {}
    for graph, scheme in ((encoder, "audio_encoder"), (embedding, "head"), (decoder, "decoder")):
        entries[f"{graph.name}.onnx"] = graph.build(places)
        components[graph.name] = Component(
            engine, f"{graph.name}.onnx", _weight_entries(graph, places), schemes[scheme]
        )
    return Components(components, entries, positions)


def _weight_entries(graph: GraphBuilder, places: Mapping[str, tuple[str, int, int]]) -> tuple[str, ...]:
    return tuple(sorted({places[name][0] for name in graph.external}))
