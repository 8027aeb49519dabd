"""A GGUF entry, read and held against the manifest before llama.cpp sees it.

llama.cpp ends the process on some damaged files, follows `split.*` keys to other files, and runs a decoder of another
size until it reads behind its memory. So the whole header is read here first, every length against the bytes that are
left, and nothing is let through but the decoder that the manifest describes. The format is version 3 of ggml's
docs/gguf.md.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

from alm.errors import EngineError
from alm.package.sections import DecoderShape

VERSION = 3
ALIGNMENT = 32
"""Bytes; where a header does not say otherwise, and ours do not."""
MOST_KEYS = 100
"""Keys in a header at most; ours have about 25."""
LONGEST_NAME = 64
"""Bytes of a tensor's name at most, as ggml has it."""

STRING, ARRAY = 8, 9
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Value type to the code of `struct`; STRING and ARRAY have lengths of their own."""
BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 12: (256, 144),
    13: (256, 176), 14: (256, 210), 30: (1, 2),
}  # fmt: skip
"""Tensor type to weights per block and bytes per block: F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K to Q6_K, BF16."""

PREFIXES = ("general.", "tokenizer.ggml.")
"""Keys that change nothing about what is computed: the SDK has its own tokenizer, and llama.cpp's is left out."""
NUMBERED = "context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count"
KNOWN = {f"llama.{name}" for name in NUMBERED} | {
    "llama.attention.head_count_kv", "llama.attention.layer_norm_rms_epsilon", "llama.rope.freq_base",
    "llama.rope.dimension_count", "llama.vocab_size",
}  # fmt: skip
"""Keys of the architecture that the exporter writes, and all that a decoder may have."""


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies."""

    kind: int
    """ggml's number of its type."""
    shape: tuple[int, ...]
    """Fastest axis first, as ggml counts them."""
    offset: int
    """First byte, counted from the start of the entry."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Gguf:
    """The header of a GGUF entry."""

    name: str
    """The entry."""
    values: dict[str, Any]
    """Keys and their values; of arrays their lengths."""
    tensors: dict[str, Tensor]
    """By name."""


def read_gguf(data: memoryview, name: str) -> Gguf:
    """The header of the entry `name`, whose bytes are `data`. EngineError when anything in it is not as it must be."""
    try:
        return _read(_Cursor(data), name)
    except (struct.error, OverflowError):  # of `unpack_from` at a place behind the end
        fault = _cut(data)
    except ValueError as error:
        fault = str(error)
    raise EngineError(f"{name!r} is no usable GGUF: {fault}; export the package again")


def _cut(data: memoryview) -> str:
    return f"it ends at byte {len(data)}, within its header"


def check_decoder(gguf: Gguf, shape: DecoderShape) -> None:
    """EngineError unless the GGUF is a llama decoder of this very shape, with every tensor it needs and no other."""
    values = gguf.values
    heads = shape.width // shape.head_dim
    wanted = {
        "general.architecture": "llama",
        "llama.embedding_length": shape.width,
        "llama.block_count": shape.layers,
        "llama.attention.head_count": heads,
        "llama.attention.head_count_kv": shape.kv_heads,
        "llama.rope.dimension_count": shape.head_dim,
        "llama.vocab_size": shape.vocabulary,
    }
    for key, value in wanted.items():
        _expect(gguf, values.get(key) == value, key, values.get(key), value)
    least = values.get("llama.context_length")
    _expect(gguf, isinstance(least, int) and least >= shape.max_positions, "llama.context_length", least,
            f"{shape.max_positions} or more")  # fmt: skip
    for key in ("llama.rope.freq_base", "llama.attention.layer_norm_rms_epsilon"):
        value = values.get(key)
        fits = isinstance(value, float) and math.isfinite(value) and value > 0
        _expect(gguf, fits, key, value, "a finite number above 0")
    hidden = values.get("llama.feed_forward_length", 0)
    _expect(gguf, isinstance(hidden, int) and hidden > 0, "llama.feed_forward_length", hidden, "a number above 0")
    tensors = 2 + 9 * shape.layers
    _expect(gguf, len(gguf.tensors) == tensors, "the number of tensors", len(gguf.tensors), tensors)
    shapes = _shapes(shape, heads * shape.head_dim, hidden)
    odd = sorted(gguf.tensors.keys() ^ shapes.keys())
    if odd:
        state = "has no" if odd[0] in shapes else "has an unknown"
        raise EngineError(f"{gguf.name!r} {state} tensor {odd[0]!r}; export the package again")
    for key, expected in shapes.items():
        _expect(gguf, gguf.tensors[key].shape == expected, key, gguf.tensors[key].shape, expected)


def _expect(gguf: Gguf, fits: bool, key: str, found: object, expected: object) -> None:
    if not fits:
        raise EngineError(
            f"{gguf.name!r} does not fit the manifest: {key} is {found!r}, expected {expected!r}; "
            "export the package again"
        )


def _shapes(shape: DecoderShape, width: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """Every tensor of a llama decoder whose head is its token embedding."""
    keys = shape.kv_heads * shape.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (shape.width, shape.vocabulary),
        "output_norm.weight": (shape.width,),
    }
    for layer in range(shape.layers):
        block = {
            "attn_norm": (shape.width,), "attn_q": (shape.width, width), "attn_k": (shape.width, keys),
            "attn_v": (shape.width, keys), "attn_output": (width, shape.width), "ffn_norm": (shape.width,),
            "ffn_gate": (shape.width, hidden), "ffn_up": (shape.width, hidden), "ffn_down": (hidden, shape.width),
        }  # fmt: skip
        shapes |= {f"blk.{layer}.{name}.weight": axes for name, axes in block.items()}
    return shapes


class _Cursor:
    """Reads little-endian values one behind the other; ValueError or struct.error behind the end."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.place = 0

    def number(self, code: str) -> Any:
        (value,) = struct.unpack_from(f"<{code}", self.data, self.place)
        self.skip(struct.calcsize(f"<{code}"))
        return value

    def skip(self, count: int) -> None:
        if count > len(self.data) - self.place:
            raise ValueError(_cut(self.data))
        self.place += count

    def text(self) -> str:
        length = self.number("Q")
        start = self.place
        self.skip(length)
        return str(self.data[start : self.place], "utf-8")


def _read(cursor: _Cursor, name: str) -> Gguf:
    if (magic := bytes(cursor.data[:4])) != b"GGUF":
        raise ValueError(f"it starts with {magic!r}")
    cursor.skip(4)
    if (version := cursor.number("I")) != VERSION:
        raise ValueError(f"found version {version}, expected {VERSION}")
    tensors, keys = cursor.number("Q"), cursor.number("Q")
    if keys > MOST_KEYS:
        raise ValueError(f"found {keys} keys, expected at most {MOST_KEYS}")
    values: dict[str, Any] = {}
    for _ in range(keys):
        key = cursor.text()
        if key in values or (key not in KNOWN and not key.startswith(PREFIXES)) or key == "general.alignment":
            raise ValueError(f"found the key {key!r}, which decoders of this project do not have, or twice")
        values[key] = _value(cursor, cursor.number("I"))
    found = [_tensor(cursor) for _ in range(min(tensors, len(cursor.data)))]
    start = -(-cursor.place // ALIGNMENT) * ALIGNMENT
    placed: dict[str, Tensor] = {}
    end = start
    # ggml wants each tensor's data right behind the one before.
    for key, kind, shape, offset in found:
        tensor = Tensor(kind, shape, start + offset, _size(kind, shape))
        if key in placed or tensor.offset != end or end + tensor.size > len(cursor.data):
            raise ValueError(f"the data of the tensor {key!r} is not where it must be, or ends behind the entry")
        placed[key] = tensor
        end += -(-tensor.size // ALIGNMENT) * ALIGNMENT
    return Gguf(name, values, placed)


def _value(cursor: _Cursor, kind: int) -> Any:
    if kind == STRING:
        return cursor.text()
    if kind != ARRAY:
        return cursor.number(_code(kind))
    kind, length = cursor.number("I"), cursor.number("Q")
    if kind == STRING:
        _skip_texts(cursor, length)
    else:
        cursor.skip(length * struct.calcsize(f"<{_code(kind)}"))
    return length


def _skip_texts(cursor: _Cursor, count: int) -> None:
    """Over a list of tokens or merges: 100,000 of them, so without a call for each."""
    data, place, read = cursor.data, cursor.place, struct.Struct("<Q").unpack_from
    for _ in range(min(count, len(data))):
        place += 8 + read(data, place)[0]
    cursor.skip(place - cursor.place)


def _tensor(cursor: _Cursor) -> tuple[str, int, tuple[int, ...], int]:
    name = cursor.text()
    axes = cursor.number("I")
    if len(name) >= LONGEST_NAME or not 1 <= axes <= 4:
        raise ValueError(f"found a tensor {name[:LONGEST_NAME]!r} of {axes} axes")
    shape = tuple(cursor.number("Q") for _ in range(axes))
    return name, cursor.number("I"), shape, cursor.number("Q")


def _size(kind: int, shape: tuple[int, ...]) -> int:
    if kind not in BLOCKS:
        raise ValueError(f"found a tensor of ggml's type {kind}, expected one of {', '.join(map(str, BLOCKS))}")
    weights, size = BLOCKS[kind]
    if shape[0] % weights or not all(shape):
        raise ValueError(f"found a tensor of type {kind} and shape {shape}, whose first axis it does not divide")
    return math.prod(shape) // weights * size


def _code(kind: int) -> str:
    if kind not in NUMBERS:
        raise ValueError(f"found a value of the unknown type {kind}")
    return NUMBERS[kind]
