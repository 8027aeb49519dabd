"""From a PyTorch model and an assignment of schemes to the entries of a package."""

from __future__ import annotations

import filecmp
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alm.audio.log_mel import BANK
from alm.errors import ExportError
from alm.package import Component
from alm.package.safetensors import write_tensors
from alm_export.executorch_program import DELEGATION, PROGRAM, delegation_json, write_program
from alm_export.graphs.audio_encoder import build_audio_encoder
from alm_export.graphs.decoder import build_decoder, build_token_embedding
from alm_export.graphs.graph import GraphBuilder
from alm_export.graphs.spectrogram import FourStep
from alm_export.llama_gguf import check_rows, quantize_gguf, write_gguf
from alm_quantize.cache_scales import CacheScales
from alm_quantize.gate import Assignment
from alm_train.checkpoints.weights import Weights

ANSWER_ROOM = 300
"""Tokens of the longest answer, as the authors' examples allow."""

Built = tuple[dict[str, Component], dict[str, bytes | Path]]
"""Components by name, and the entries that they read."""


@dataclass(frozen=True)
class Components:
    """Everything of a package that an engine reads."""

    components: Mapping[str, Component]
    """By name, for the manifest."""
    entries: Mapping[str, bytes | Path]
    """Graphs and weights."""
    positions: int | None = None
    """Capacity of the KV buffer: prefix and longest answer. None without a decoder."""


def build_components(
    weights: Weights, schemes: Assignment, engine: str, folder: Path, scales: CacheScales | None = None
) -> Components:
    """Build what a package needs for `engine` and write what is large below `folder`. With `scales`, onnxruntime keeps
    keys and values in 8 bits; the other engines decide on theirs.

    ExportError when the prefix leaves no room for an answer.
    """
    config = weights.model.config
    positions = min(config.prefix_tokens + ANSWER_ROOM, config.decoder.max_positions)
    if positions <= config.prefix_tokens:
        raise ExportError(
            f"the decoder has {positions} positions and the prefix takes {config.prefix_tokens}: no room for an "
            "answer; use weights with a larger max_positions"
        )
    return Components(*BUILDERS[engine](weights, schemes, positions, folder, scales), positions)


def merged_entries(parts: Sequence[Components]) -> dict[str, bytes | Path]:
    """The entries of one package for all of `parts`; what two engines share is in it once.

    ExportError where two engines made different entries of one name.
    """
    merged: dict[str, bytes | Path] = {}
    for part in parts:
        for name, entry in part.entries.items():
            if name in merged and not _equal(entry, merged[name]):
                raise ExportError(f"two engines made different entries named {name!r}; export them one by one")
            merged.setdefault(name, entry)
    return merged


def _equal(one: bytes | Path, two: bytes | Path) -> bool:
    if isinstance(one, Path) and isinstance(two, Path):
        return filecmp.cmp(one, two, shallow=False)
    return one == two


def _for_onnxruntime(
    weights: Weights, schemes: Assignment, positions: int, folder: Path, scales: CacheScales | None
) -> Built:
    language = weights.model.caption_decoder.lm
    graphs = {
        "audio_encoder": build_audio_encoder(weights.model, schemes["audio_encoder"]),
        "token_embedding": build_token_embedding(language, schemes["head"]),
        "decoder": build_decoder(language, positions, schemes["decoder"], schemes["head"], scales),
    }
    # The token embedding's matrix is the head's too: one entry serves both.
    shared = {name: graphs["decoder"].tensors.pop(name) for name in graphs["token_embedding"].tensors}
    tensors = {name: shared if name == "token_embedding" else graph.tensors for name, graph in graphs.items()}
    named = {name: schemes["head" if name == "token_embedding" else name] for name in graphs}
    return write_graphs(graphs, tensors, named, folder)


def _for_llama_cpp(
    weights: Weights, schemes: Assignment, positions: int, folder: Path, scales: CacheScales | None
) -> Built:
    encoder = build_audio_encoder(weights.model, schemes["audio_encoder"])
    graphs, tensors = {"audio_encoder": encoder}, {"audio_encoder": encoder.tensors}
    components, entries = write_graphs(graphs, tensors, schemes, folder)
    entries["decoder.gguf"] = _gguf(weights, schemes["decoder"], schemes["head"], folder)
    for name, part in (("token_embedding", "head"), ("decoder", "decoder")):
        components[name] = Component("llama.cpp", "decoder.gguf", (), schemes[part])
    return components, entries


def _for_executorch(
    weights: Weights, schemes: Assignment, positions: int, folder: Path, scales: CacheScales | None
) -> Built:
    path = folder / PROGRAM
    report = write_program(weights.model, schemes, positions, path)
    # A program gives out no weights, and watching computes log-mel frames with the encoder's own filter bank.
    bank = folder / f"{BANK}.safetensors"
    with bank.open("wb") as file:
        write_tensors(file, {BANK: FourStep.of(weights.model.audio_encoder.base.htsat.logmel_extractor).stored_bank})
    components = {
        "audio_encoder": Component("executorch", PROGRAM, (bank.name,), schemes["audio_encoder"]),
        "token_embedding": Component("executorch", PROGRAM, (), schemes["head"]),
        "decoder": Component("executorch", PROGRAM, (), schemes["decoder"]),
    }
    return components, {PROGRAM: path, DELEGATION: delegation_json(report), bank.name: bank}


BUILDERS: dict[str, Callable[[Weights, Assignment, int, Path, CacheScales | None], Built]] = {
    "onnxruntime": _for_onnxruntime,
    "llama.cpp": _for_llama_cpp,
    "executorch": _for_executorch,
}
"""By engine: weights, schemes, positions and scales of the KV cache, and a folder, to components and entries."""


def write_graphs(
    graphs: Mapping[str, GraphBuilder],
    tensors: Mapping[str, dict[str, np.ndarray]],
    schemes: Mapping[str, str],
    folder: Path,
) -> Built:
    """ONNX components and their entries. `tensors` says which weights entry holds what, all graphs' weights once; it
    is emptied as it is written."""
    places: dict[str, tuple[str, int, int]] = {}
    entries: dict[str, bytes | Path] = {}
    for name, own in tensors.items():
        entry = f"{name}.safetensors"
        entries[entry] = folder / entry
        with (folder / entry).open("wb") as file:
            slots = write_tensors(file, own)
        if twice := slots.keys() & places.keys():
            raise ValueError(f"two components name a tensor {min(twice)!r}")
        places |= {tensor: (entry, slot.offset, slot.size) for tensor, slot in slots.items()}
        own.clear()  # the full-size decoder is half a gigabyte in float32
    components: dict[str, Component] = {}
    for name, graph in graphs.items():
        entries[f"{name}.onnx"] = graph.build(places)
        components[name] = Component("onnxruntime", f"{name}.onnx", _weight_entries(graph, places), schemes[name])
    return components, entries


def _gguf(weights: Weights, scheme: str, table: str, folder: Path) -> Path:
    """The decoder as GGUF, head and token embedding included: llama.cpp reads a whole model."""
    precise, path = folder / "decoder-fp32.gguf", folder / "decoder.gguf"
    language, stop = weights.model.caption_decoder.lm, weights.model.config.stop_id
    check_rows(language.config, scheme, table)
    write_gguf(precise, language, weights.tokenizer, name=weights.name, stop_id=stop)
    if scheme == table == "fp32":
        return precise.replace(path)
    quantize_gguf(precise, path, scheme, table=table)
    precise.unlink()
    return path


def _weight_entries(graph: GraphBuilder, places: Mapping[str, tuple[str, int, int]]) -> tuple[str, ...]:
    return tuple(sorted({places[name][0] for name in graph.external}))
