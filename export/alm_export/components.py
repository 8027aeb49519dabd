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
from alm_export.llama_gguf import quantize_gguf, write_gguf
from alm_quantize.gate import Assignment
from alm_train.checkpoints.weights import Weights

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


def build_components(weights: Weights, schemes: Assignment, engine: str, folder: Path) -> Components:
    """Build all graphs and write what is large below `folder`; `engine` runs the decoder.

    ExportError when the prefix leaves no room for an answer.
    """
    config = weights.model.config
    positions = min(config.prefix_tokens + ANSWER_ROOM, config.decoder.max_positions)
    if positions <= config.prefix_tokens:
        raise ExportError(
            f"the decoder has {positions} positions and the prefix takes {config.prefix_tokens}: no room for an "
            "answer; use weights with a larger max_positions"
        )
    language = weights.model.caption_decoder.lm
    encoder = build_audio_encoder(weights.model, schemes["audio_encoder"])
    embedding = build_token_embedding(language, schemes["head"])
    graphs = {"audio_encoder": encoder, "token_embedding": embedding}
    if engine == "onnxruntime":
        graphs["decoder"] = build_decoder(language, positions, schemes["decoder"], schemes["head"])
    components, entries = _onnx(graphs, schemes, folder)
    if engine == "llama.cpp":
        entries["decoder.gguf"] = _gguf(weights, schemes["decoder"], folder)
        components["decoder"] = Component(engine, "decoder.gguf", (), schemes["decoder"])
    return Components(components, entries, positions)


def _onnx(graphs: Mapping[str, GraphBuilder], schemes: Assignment, folder: Path) -> tuple[dict, dict]:
    """Components and entries of the graphs. The token embedding's matrix is the head's too: one entry serves both."""
    shared = graphs["token_embedding"].tensors
    if "decoder" in graphs:
        shared = {name: graphs["decoder"].tensors.pop(name) for name in shared}
    tensors = {name: shared if name == "token_embedding" else graph.tensors for name, graph in graphs.items()}
    places: dict[str, tuple[str, int, int]] = {}
    entries: dict[str, bytes | Path] = {}
    for name, own in tensors.items():
        entry = f"{name}.safetensors"
        entries[entry] = folder / entry
        with (folder / entry).open("wb") as file:
            slots = write_tensors(file, own)
        places |= {tensor: (entry, slot.offset, slot.size) for tensor, slot in slots.items()}
        own.clear()  # the full-size decoder is half a gigabyte in float32
    components = {}
    for name, graph in graphs.items():
        entries[f"{name}.onnx"] = graph.build(places)
        scheme = schemes["head" if name == "token_embedding" else name]
        components[name] = Component("onnxruntime", f"{name}.onnx", _weight_entries(graph, places), scheme)
    return components, entries


def _gguf(weights: Weights, scheme: str, folder: Path) -> Path:
    """The decoder as GGUF, head and token embedding included: llama.cpp reads a whole model."""
    precise, path = folder / "decoder-fp32.gguf", folder / "decoder.gguf"
    stop = weights.model.config.stop_id
    write_gguf(precise, weights.model.caption_decoder.lm, weights.tokenizer, name=weights.name, stop_id=stop)
    if scheme == "fp32":
        return precise.replace(path)
    quantize_gguf(precise, path, scheme)
    precise.unlink()
    return path


def _weight_entries(graph: GraphBuilder, places: Mapping[str, tuple[str, int, int]]) -> tuple[str, ...]:
    return tuple(sorted({places[name][0] for name in graph.external}))
