"""The safetensors layout against its reference implementation and against hostile headers."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from alm.errors import PackageError
from alm.package.safetensors import DTYPES, read_metadata, read_slots, read_tensors, write_tensors


def packed(tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> bytes:
    file = io.BytesIO()
    write_tensors(file, tensors, metadata)
    return file.getvalue()


def same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert set(left) == set(right)
    for name in left:
        assert left[name].dtype == right[name].dtype
        np.testing.assert_array_equal(left[name], right[name])


ARRAYS = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda name: name != "__metadata__"),
    st.sampled_from(list(DTYPES.values())).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9))
    ),
    max_size=6,
)


@settings(max_examples=150)
@given(ARRAYS)
def test_round_trip_and_alignment(tensors: dict[str, np.ndarray]) -> None:
    data = packed(tensors)
    same(read_tensors(data), tensors)
    for slot in read_slots(data).values():
        assert slot.offset % (64 if slot.size % 64 == 0 else slot.dtype.itemsize) == 0


@settings(max_examples=100)
@given(ARRAYS)
def test_reference_implementation_agrees(tensors: dict[str, np.ndarray]) -> None:
    same(reference.load(packed(tensors, {"format": "pt"})), tensors)
    same(read_tensors(reference.save(tensors)), tensors)


def test_slots_tell_where_the_bytes_are() -> None:
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.arange(64, dtype=np.int8)}
    file = io.BytesIO()
    slots = write_tensors(file, tensors)
    assert slots == read_slots(file.getvalue())
    for name, slot in slots.items():
        assert file.getvalue()[slot.offset : slot.offset + slot.size] == tensors[name].tobytes()
        assert slot.shape == tensors[name].shape


def test_layout_of_memory_does_not_matter() -> None:
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    big_endian = np.arange(5, dtype=">i4")
    tensors = read_tensors(packed({"transposed": base.T, "strided": base[:, ::2], "big": big_endian}))
    np.testing.assert_array_equal(tensors["transposed"], base.T)
    np.testing.assert_array_equal(tensors["strided"], base[:, ::2])
    np.testing.assert_array_equal(tensors["big"], big_endian)


@pytest.mark.parametrize("dtype", [np.complex64, object, "U3", "datetime64[s]"])
def test_element_types_without_a_code(dtype: Any) -> None:
    with pytest.raises(PackageError, match=r"'bad' is .*, expected one of F64, F32"):
        packed({"bad": np.zeros(2, dtype)})


@given(
    metadata=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"]))
    )
)
def test_metadata_come_back(metadata: dict[str, str]) -> None:
    assert read_metadata(packed({"a": np.zeros(3)}, metadata)) == metadata


@pytest.mark.parametrize("metadata", [[], "text", 3, {"key": 3}, {"key": None}])
def test_metadata_that_are_no_texts(metadata: object) -> None:
    header = json.dumps({"__metadata__": metadata}).encode()
    with pytest.raises(PackageError, match="expected an object of texts"):
        read_metadata(len(header).to_bytes(8, "little") + header)


def test_name_kept_for_metadata() -> None:
    with pytest.raises(PackageError, match="__metadata__"):
        packed({"__metadata__": np.zeros(1)})


def crafted(header: Any, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def tensor(shape: Any, start: Any, end: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "does not fit"),
        (b"\0" * 7, "does not fit"),
        (b"\xff" * 8, "does not fit"),
        ((100).to_bytes(8, "little") + b"{}", "does not fit"),
        (crafted(b"{"), "not valid JSON"),
        (crafted([]), "expected an object"),
        (crafted(b'{"a": 1, "a": 2}'), "occurs twice"),
        (crafted({"a": 1}), "'a': found 1"),
        (crafted({"a": {"dtype": "F32", "shape": []}}), "expected dtype, shape"),
        (crafted({"a": tensor([1], 0, 4, "BF16")}, b"1234"), "'BF16', expected one of"),
        (crafted({"a": tensor([1], 0, 4, ["F32"])}, b"1234"), "element type"),
        (crafted({"a": tensor([-1], 0, 4)}, b"1234"), "shape"),
        (crafted({"a": tensor([True], 0, 4)}, b"1234"), "shape"),
        (crafted({"a": tensor([1.0], 0, 4)}, b"1234"), "shape"),
        (crafted({"a": tensor([1] * 40, 0, 4)}, b"1234"), "shape"),
        (crafted({"a": tensor([0, 2**62, 2**62], 0, 0)}), "shape"),
        (crafted({"a": tensor([2**62, 8], 0, 4)}, b"1234"), "shape"),
        (crafted({"a": tensor([1], -4, 0)}, b"1234"), "offsets"),
        (crafted({"a": tensor([1], 4, 0)}, b"1234"), "takes 4 bytes"),
        (crafted({"a": tensor([1], 0, 8)}, b"12345678"), "takes 4 bytes, its offsets say 8"),
        (crafted({"a": tensor([2], 0, 8)}, b"1234"), "end at byte"),
        (crafted({"a": tensor([1], 0, 4)}, b"12345678"), "end at byte"),
        (crafted({"a": tensor([1], 0, 4), "b": tensor([1], 0, 4)}, b"1234"), "'b' starts at"),
        (crafted({"a": tensor([2], 0, 8), "b": tensor([1], 4, 8)}, b"12345678"), "'b' starts at"),
        (crafted({"a": tensor([1], 4, 8)}, b"12345678"), "leave gaps"),
    ],
)  # fmt: skip
def test_hostile_headers(data: bytes, match: str) -> None:
    with pytest.raises(PackageError, match=match):
        read_tensors(data)


@settings(max_examples=300)
@given(st.integers(0, 400), st.binary(min_size=1, max_size=6), st.booleans())
def test_fuzz(position: int, replacement: bytes, cut: bool) -> None:
    data = bytearray(packed({"a": np.ones((2, 3), np.float32), "b": np.arange(64, dtype=np.uint8)}))
    data[position : position + len(replacement)] = replacement
    try:
        for array in read_tensors(bytes(data[: -len(replacement)] if cut else data)).values():
            array.sum()
    except PackageError:
        pass


def test_streams_to_a_file(tmp_path: Path) -> None:
    tensors = {"a": np.arange(1000, dtype=np.float16)}
    with (tmp_path / "x.safetensors").open("wb") as file:
        write_tensors(file, tensors)
    same(reference.load_file(tmp_path / "x.safetensors"), tensors)
