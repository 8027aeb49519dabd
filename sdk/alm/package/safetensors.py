"""The safetensors layout in numpy: tensors as views of a map, and a writer that keeps them aligned.

Layout (safetensors format description): 8 bytes little-endian length, that many bytes of JSON, then
the tensors' bytes in C order, little-endian, without gaps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from alm.errors import PackageError
from alm.package.schema import found, parse_json

ALIGNMENT = 64
"""Bytes; a cache line and the widest vector register of our targets."""
METADATA = "__metadata__"
"""Key of the header that holds text instead of a tensor."""
MAX_HEADER = 100_000_000
"""Bytes; the limit of the reference implementation."""
MAX_EXTENT = 2**40
"""Elements of the largest tensor."""

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
"""The element types that numpy has; a checkpoint in bfloat16 must be converted first."""


@dataclass(frozen=True)
class TensorSlot:
    """Where one tensor lies."""

    dtype: np.dtype[Any]
    """Element type."""
    shape: tuple[int, ...]
    """Shape, C order."""
    offset: int
    """First byte, counted from the start of the safetensors data."""
    size: int
    """Bytes."""


def read_slots(data: memoryview | bytes) -> dict[str, TensorSlot]:
    """The place of every tensor; raises PackageError unless they fill the data exactly, without overlap."""
    total = len(data)
    header, start = _header(data)
    slots = {name: _slot(name, entry, start) for name, entry in header.items() if name != METADATA}
    position = start
    for name, slot in sorted(slots.items(), key=lambda item: (item[1].offset, item[1].size)):
        if slot.offset != position:
            raise PackageError(
                f"safetensors: {name!r} starts at byte {slot.offset}, expected {position}: tensors neither "
                "overlap nor leave gaps"
            )
        position += slot.size
    if position != total:
        raise PackageError(f"safetensors: the tensors end at byte {position}, the data at {total}")
    return slots


def read_tensors(data: memoryview | bytes) -> dict[str, NDArray[Any]]:
    """By name, every tensor in its stored shape as a read-only view of `data`, which stays alive as long as one of them
    does. Errors as of `read_slots`."""
    view = memoryview(data).toreadonly()
    return {
        name: np.frombuffer(view, slot.dtype, math.prod(slot.shape), slot.offset).reshape(slot.shape)
        if slot.size
        else np.empty(slot.shape, slot.dtype)
        for name, slot in read_slots(view).items()
    }


def read_metadata(data: memoryview | bytes) -> dict[str, str]:
    """The text that `write_tensors` was given beside the tensors; empty where there is none.
    PackageError for a damaged header or metadata that are no text."""
    metadata = _header(data)[0].get(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise PackageError(f"safetensors: found the metadata {found(metadata)}, expected an object of texts")
    return metadata


def write_tensors(
    file: BinaryIO, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None
) -> dict[str, TensorSlot]:
    """Write `tensors` to `file` one after the other and return their slots.

    Tensors of a multiple of 64 bytes come first, so that each starts on a 64-byte boundary of the
    data; the rest follow by falling element size, each on a multiple of its element. Equal input gives
    equal bytes. PackageError for an element type outside DTYPES and for the name of the metadata.
    """
    names = {dtype: name for name, dtype in DTYPES.items()}
    for name, tensor in tensors.items():
        if tensor.dtype.newbyteorder("<") not in names:
            raise PackageError(f"safetensors: {name!r} is {tensor.dtype}, expected one of {', '.join(DTYPES)}")
    if METADATA in tensors:
        raise PackageError(f"safetensors: no tensor can be named {METADATA!r}")
    order = sorted(tensors, key=lambda key: (tensors[key].nbytes % ALIGNMENT > 0, -tensors[key].dtype.itemsize, key))
    header: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    position = 0
    for name in order:
        tensor = tensors[name]
        header[name] = {
            "dtype": names[tensor.dtype.newbyteorder("<")],
            "shape": list(tensor.shape),
            "data_offsets": [position, position + tensor.nbytes],
        }
        position += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in order:
        little = np.ascontiguousarray(tensors[name], dtype=tensors[name].dtype.newbyteorder("<"))
        file.write(little.reshape(-1).view(np.uint8).data)
    start = 8 + len(text)
    return {name: _slot(name, entry, start) for name, entry in header.items() if name != METADATA}


def _header(data: memoryview | bytes) -> tuple[dict[str, Any], int]:
    """The header, and the offset at which the tensors' bytes begin."""
    total = len(data)
    length = int.from_bytes(bytes(data[:8]), "little")
    if total < 8 or length > min(MAX_HEADER, total - 8):
        raise PackageError(f"safetensors: the header of {length} bytes does not fit in {total} bytes")
    header = parse_json(bytes(data[8 : 8 + length]), "safetensors header")
    if not isinstance(header, dict):
        raise PackageError(f"safetensors header: found {found(header)}, expected an object")
    return header, 8 + length


def _slot(name: str, entry: Any, start: int) -> TensorSlot:
    where = f"safetensors: {name!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise PackageError(f"{where}: found {found(entry)}, expected dtype, shape and data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in DTYPES:
        raise PackageError(f"{where}: found the element type {found(code)}, expected one of {', '.join(DTYPES)}")
    # numpy counts the extent of an empty tensor too, without its zeros.
    if not _naturals(shape) or len(shape) > 32 or math.prod(filter(None, shape)) > MAX_EXTENT:
        raise PackageError(f"{where}: found the shape {found(shape)}, expected at most 32 small whole numbers")
    if not _naturals(offsets) or len(offsets) != 2:
        raise PackageError(f"{where}: found the offsets {found(offsets)}, expected two whole numbers")
    size = math.prod(shape) * DTYPES[code].itemsize
    if offsets[1] - offsets[0] != size:
        raise PackageError(
            f"{where}: {code} of shape {found(shape)} takes {size} bytes, its offsets say {offsets[1] - offsets[0]}"
        )
    return TensorSlot(DTYPES[code], tuple(shape), start + offsets[0], size)


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 2**63 for item in value
    )
