"""Point an ONNX graph's weights at the package file itself, so that onnxruntime maps them in place.

A packaged graph names the weights entry and the offset inside it, which makes an unzipped package a plain ONNX
model. onnxruntime opens weights by file name, and only this way leaves one copy: weights handed over as
arrays are copied before they are prepacked (313 MB resident instead of 200 for full-size Mellow at int4). So
each location is rewritten to the package's file, with the entry's place in it added, on the bytes of the
graph: a few fields of the protobuf wire format, not worth a dependency of the device install.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from alm.errors import EngineError

Locate = Callable[[str], int]
Edit = Callable[[memoryview], bytes]

# Field numbers of onnx.proto.
MODEL_GRAPH, GRAPH_INITIALIZER, TENSOR_EXTERNAL, ENTRY_KEY, ENTRY_VALUE = 7, 5, 13, 1, 2
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
OFFSET_DIGITS = 18
"""Longest offset that surely fits 64 bits."""


def relocate(model: bytes, file_name: str, locate: Locate) -> bytes:
    """`model` with each external weight moved to `file_name`.

    `locate` gives the offset in that file of a weights entry by its name and raises for a name that the graph
    has no right to. EngineError when the bytes are no ONNX model.
    """

    def tensor(message: memoryview) -> bytes:
        entries = dict(_entry(body) for number, _, _, body in _fields(message) if number == TENSOR_EXTERNAL)
        if not entries:
            return bytes(message)
        offset = entries.get("offset", "0")
        if "location" not in entries or not offset.isdecimal() or len(offset) > OFFSET_DIGITS:
            raise EngineError("an external weight has no location or no offset")
        entries["offset"] = str(int(offset) + locate(entries["location"]))
        entries["location"] = file_name
        kept = b"".join(message[start:end] for number, start, end, _ in _fields(message) if number != TENSOR_EXTERNAL)
        written = (_bytes(ENTRY_KEY, k.encode()) + _bytes(ENTRY_VALUE, v.encode()) for k, v in entries.items())
        return kept + b"".join(_bytes(TENSOR_EXTERNAL, entry) for entry in written)

    def graph(message: memoryview) -> bytes:
        return _edit(message, GRAPH_INITIALIZER, tensor)

    try:
        return _edit(memoryview(model), MODEL_GRAPH, graph)
    except (IndexError, UnicodeDecodeError) as error:
        raise EngineError("it is no ONNX model") from error


def _edit(message: memoryview, wanted: int, edit: Edit) -> bytes:
    """A copy of `message` with the submessages of one field replaced."""
    parts = [
        _bytes(number, edit(body)) if number == wanted else bytes(message[start:end])
        for number, start, end, body in _fields(message)
    ]
    return b"".join(parts)


def _fields(message: memoryview) -> Iterator[tuple[int, int, int, memoryview]]:
    """(field number, start, end, body) of each field; the body is empty unless it is length-delimited."""
    position = 0
    while position < len(message):
        start = position
        key, position = _varint(message, position)
        kind, body = key & 7, message[:0]
        if kind == VARINT:
            _, position = _varint(message, position)
        elif kind == BYTES:
            length, position = _varint(message, position)
            body = message[position : position + length]
            position += length
        elif kind in (FIXED64, FIXED32):
            position += 8 if kind == FIXED64 else 4
        else:
            raise EngineError(f"it is no ONNX model: wire type {kind}")
        if position > len(message):
            raise EngineError("it is no ONNX model: it ends inside a field")
        yield key >> 3, start, position, body


def _entry(message: memoryview) -> tuple[str, str]:
    parts = {number: str(body, "utf-8") for number, _, _, body in _fields(message)}
    return parts.get(ENTRY_KEY, ""), parts.get(ENTRY_VALUE, "")


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position
        if shift > 63:
            raise EngineError("it is no ONNX model: a number is too long")


def _bytes(number: int, body: bytes) -> bytes:
    return _encoded(number << 3 | BYTES) + _encoded(len(body)) + body


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
