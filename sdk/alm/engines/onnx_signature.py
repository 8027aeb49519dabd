"""What an ONNX component must take and give, by the manifest.

onnxruntime checks a graph against itself. Whether it is the graph that belongs to this manifest is checked here, when
it is loaded: the graph of another model fails with names and sizes, and not in the middle of an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from alm.errors import EngineError
from alm.package import Manifest, section
from alm.package.sections import DecoderShape

Shape = tuple[int | None, ...]
"""Sizes of the axes; None for one whose size is not fixed."""
Signature = Mapping[str, tuple[str, Shape]]
"""Element type and shape by the name of an input or output."""

FLOAT, INT64, INT32, INT8 = "tensor(float)", "tensor(int64)", "tensor(int32)", "tensor(int8)"


def keeps_int8(session: Any) -> bool:
    """Whether a decoder's session keeps keys and values in 8 bits; otherwise they are float32."""
    return any(value.name == "past_key_0" and value.type == INT8 for value in session.get_inputs())


def check_decoder(session: Any, graph: str, shape: DecoderShape) -> None:
    """EngineError unless the session takes and gives what a decoder of this shape does; `graph` names its entry."""
    cache = 1, shape.kv_heads, shape.max_positions, shape.head_dim
    kept = INT8 if keeps_int8(session) else FLOAT
    caches = [f"{part}_{layer}" for layer in range(shape.layers) for part in ("key", "value")]
    inputs: Signature = {
        "embeddings": (FLOAT, (1, None, shape.width)),
        "rows": (INT64, (None,)),
        "last_position": (INT32, (1,)),
        "total_length": (INT32, ()),
        **{f"past_{name}": (kept, cache) for name in caches},
    }
    outputs: Signature = {
        "logits": (FLOAT, (None, shape.vocabulary)),
        **{f"present_{name}": (kept, cache) for name in caches},
    }
    _check(session.get_inputs(), inputs, graph, "input")
    _check(session.get_outputs(), outputs, graph, "output")


def check_embedding(session: Any, graph: str, shape: DecoderShape) -> None:
    """EngineError unless the session turns ids into embeddings of this width."""
    _check(session.get_inputs(), {"ids": (INT64, (None,))}, graph, "input")
    _check(session.get_outputs(), {"embeddings": (FLOAT, (None, shape.width))}, graph, "output")


def check_audio_encoder(session: Any, graph: str, manifest: Manifest) -> None:
    """EngineError unless the session takes a clip of the manifest's length; audio tokens must fit the prompt."""
    _check(session.get_inputs(), {"waveform": (FLOAT, (1, manifest.frontend.samples))}, graph, "input")
    outputs = [output for output in session.get_outputs() if output.name == "audio_tokens"]
    if outputs and manifest.prompt is not None and manifest.decoder is not None:
        tokens = 1, manifest.prompt.audio_tokens, manifest.decoder.width
        _check(outputs, {"audio_tokens": (FLOAT, tokens)}, graph, "output")


def check_mapper(session: Any, graph: str, manifest: Manifest) -> None:
    """EngineError unless the session takes the embeddings and the prompt that the manifest tells of, and gives its
    prefix."""
    mapper, decoder = section(manifest.mapper, "mapper"), section(manifest.decoder, "decoder")
    vectors = ("first", "second")[: mapper.clips]
    inputs: dict[str, tuple[str, Shape]] = dict.fromkeys(vectors, (FLOAT, (1, mapper.width)))
    if manifest.prompt is not None:
        inputs["prompt"] = FLOAT, (manifest.prompt.prompt_tokens, decoder.width)
    _check(session.get_inputs(), inputs, graph, "input")
    _check(session.get_outputs(), {"prefix": (FLOAT, (1, mapper.tokens, decoder.width))}, graph, "output")


def _check(values: Iterable[Any], expected: Signature, graph: str, side: str) -> None:
    found = {
        value.name: (value.type, tuple(axis if isinstance(axis, int) else None for axis in value.shape))
        for value in values
    }
    advice = "another package's graph, or one of another version of alm-edge; export the package again"
    odd = sorted(expected.keys() - found.keys()) + sorted(found.keys() - expected.keys())
    if odd:
        state = "lacks the" if odd[0] in expected else "has the unknown"
        raise EngineError(f"{graph!r} {state} {side} {odd[0]!r}: {advice}")
    for name, wanted in expected.items():
        if found[name] != wanted:
            raise EngineError(
                f"{graph!r} has the {side} {name!r} as {_words(found[name])}, the manifest says {_words(wanted)}: "
                f"{advice}"
            )


def _words(kind: tuple[str, Shape]) -> str:
    axes = ", ".join("any" if axis is None else str(axis) for axis in kind[1])
    return f"{kind[0]} of ({axes})"
