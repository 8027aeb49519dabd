"""Damaged, altered and hostile packages: one PackageError with the reason, never wrong content."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_entries, tiny_manifest, write_tiny

from alm.errors import PackageError
from alm.package import Manifest, Package, write_package
from alm.package.archive import Record, directory


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("valid") / "tiny.alm"
    write_tiny(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("attack") / "attacked.alm"


def refuse(target: Path, data: bytes, match: str) -> None:
    target.write_bytes(data)
    with pytest.raises(PackageError, match=match) as caught:
        Package.open(target)
    assert "attacked.alm" in str(caught.value)


def spans(data: bytes) -> dict[str, tuple[int, int]]:
    """First and last byte of every entry's data, by the standard library's reading."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        result = {}
        for info in archive.infolist():
            extra = int.from_bytes(data[info.header_offset + 28 : info.header_offset + 30], "little")
            start = info.header_offset + 30 + len(info.filename) + extra
            result[info.filename] = (start, start + info.file_size)
        return result


def pack(entries: dict[str, bytes], tweak: Callable[[Record], Record] = lambda record: record) -> bytes:
    """A container in the exact form of a package, with any names and contents."""
    body, records = b"", []
    for name, data in entries.items():
        record = tweak(Record(name, zlib.crc32(data), len(data), len(body)))
        body += record.local_header() + data
        records.append(record)
    return body + directory(records, len(body))


def directory_start(data: bytes) -> int:
    return int.from_bytes(data[-6:-2], "little")


def contents(data: bytes) -> dict[str, bytes]:
    return {name: data[start:end] for name, (start, end) in spans(data).items()}


@pytest.mark.parametrize("name", [*tiny_entries(), "manifest.json"])
def test_one_flipped_bit_in_any_entry(valid: bytes, target: Path, name: str) -> None:
    start, end = spans(valid)[name]
    for position in {start, (start + end) // 2, end - 1}:
        for bit in (0, 7):
            data = bytearray(valid)
            data[position] ^= 1 << bit
            refuse(target, bytes(data), f"'?{name}.*altered")


def test_verify_false_skips_only_the_hashes(valid: bytes, target: Path) -> None:
    data = bytearray(valid)
    data[spans(valid)["decoder.onnx"][0]] ^= 1
    target.write_bytes(bytes(data))
    Package.open(target, verify=False).close()
    target.write_bytes(valid[:-1])
    with pytest.raises(PackageError):
        Package.open(target, verify=False)


def test_truncation_anywhere(valid: bytes, target: Path) -> None:
    edges = {position for span in spans(valid).values() for position in span}
    cuts = {max(0, edge + delta) for edge in edges for delta in (-1, 0, 1)}
    cuts |= {1, 3, 4, 21, 22, *range(len(valid) - 25, len(valid))}
    for cut in cuts - {len(valid)}:
        refuse(target, valid[:cut], "truncated|empty|starts with")


def test_bytes_added_at_either_end(valid: bytes, target: Path) -> None:
    refuse(target, valid + b"\0", "end of the file")
    refuse(target, valid + b"PK\5\6" + bytes(18), "truncated or altered|has bytes added|says the file")
    refuse(target, b"\0" + valid, "starts with")
    refuse(target, b"PK\3\4" + valid, "says the file has")


@pytest.mark.parametrize("data", [b"", b"RIFF", b"not a package at all" * 100, b"PK\3\4", b"PK\5\6" + bytes(18)])
def test_files_that_are_something_else(target: Path, data: bytes) -> None:
    refuse(target, data, "empty|starts with|truncated|not an .alm package")


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="not a regular file"):
        Package.open(tmp_path)
    with pytest.raises(PackageError, match=r"missing\.alm cannot be read: No such file or directory$"):
        Package.open(tmp_path / "missing.alm")
    with pytest.raises(PackageError, match="cannot be read"):
        Package.open("nul\0byte.alm")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_plain_zip(target: Path, compression: int) -> None:
    with zipfile.ZipFile(target, "w", compression) as archive:
        archive.writestr("hello.txt", "hello" * 100)
    refuse(target, target.read_bytes(), r"ZIP file but not an \.alm package|compressed")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_package_repacked_by_a_zip_program(valid: bytes, target: Path, compression: int) -> None:
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, data in contents(valid).items():
            archive.writestr(name, data)
    refuse(target, target.read_bytes(), "compressed|aligned")


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "a/../../evil",
        "/etc/passwd",
        "a\\b",
        "C:evil",
        ".hidden",
        "a//b",
        "a/",
        "",
        "a\0b",
        "ä",
        "x" * 201,
    ],
)
def test_names_that_escape(valid: bytes, target: Path, name: str) -> None:
    victim = next(iter(contents(valid)))
    # The headers are rebuilt by hand because Record refuses nothing and ASCII is not given here.
    entries = contents(valid)
    safe = "n" * len(name.encode())
    renamed = {safe if key == victim else key: value for key, value in entries.items()}
    data = pack(renamed).replace(safe.encode(), name.encode()) if name else pack({"": b"", **entries})
    refuse(target, data, "found an entry named")
    with pytest.raises(PackageError, match="found an entry named"):
        write_package(target.with_name("never.alm"), tiny_manifest(), tiny_entries() | {name: b"x"})
    assert not target.with_name("never.alm").exists()


def test_duplicate_names(valid: bytes, target: Path) -> None:
    data = pack({**contents(valid), "README.mx": b"second card"}).replace(b"README.mx", b"README.md")
    refuse(target, data, "'README.md' occurs twice")
    refuse(target, pack({**contents(valid), "readme.md": b"second card"}), "'readme.md' occurs twice")
    with pytest.raises(PackageError, match="is taken"):
        write_package(target, tiny_manifest(), tiny_entries() | {"readme.MD": b"x"})
    with pytest.raises(PackageError, match="is taken"):
        write_package(target, tiny_manifest(), tiny_entries() | {"manifest.json": b"{}"})


def test_swapped_entries(valid: bytes, target: Path) -> None:
    entries = contents(valid)
    entries["README.md"], entries["tokenizer.json"] = entries["tokenizer.json"], entries["README.md"]
    refuse(target, pack(entries), "README.md|tokenizer.json")
    same_size = {**contents(valid), "decoder.onnx": bytes(100)}
    refuse(target, pack(same_size), "'decoder.onnx' is altered")


def test_entries_missing_or_not_listed(valid: bytes, target: Path) -> None:
    entries = contents(valid)
    refuse(target, pack({**entries, "extra.bin": b"x"}), "has 'extra.bin', the manifest does not list it")
    del entries["README.md"]
    refuse(target, pack(entries), "lists 'README.md', the package does not have it")


def edited(valid: bytes, edit: Callable[[dict[str, Any]], Any]) -> bytes:
    entries = contents(valid)
    manifest = json.loads(entries["manifest.json"])
    edit(manifest)
    return pack({**entries, "manifest.json": json.dumps(manifest).encode()})


def test_needed_entry_missing(valid: bytes, target: Path, tmp_path: Path) -> None:
    def point_elsewhere(manifest: dict[str, Any]) -> None:
        manifest["components"]["decoder"]["graph"] = "elsewhere.onnx"

    refuse(target, edited(valid, point_elsewhere), "needs the entry 'elsewhere.onnx'")
    entries = tiny_entries()
    del entries["golden.npz"]
    with pytest.raises(PackageError, match=r"needs the entry 'golden\.npz'"):
        write_package(tmp_path / "x.alm", tiny_manifest(), entries)


def test_newer_schema_tells_to_update(valid: bytes, target: Path) -> None:
    def from_the_future(manifest: dict[str, Any]) -> None:
        manifest["schema"] = 3
        manifest["something new"] = 1

    refuse(target, edited(valid, from_the_future), "found 3, this version reads up to 2.*pip install --upgrade")


def edit(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(manifest: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for key in parents:
            manifest = manifest[key]
        if value is ...:
            del manifest[last]
        else:
            manifest[last] = value

    return apply


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        ("schema", 0, "schema: found 0, expected one of 1, 2"),
        ("schema", True, "schema: found True, expected one of"),
        ("schema", 1.0, "schema: found 1.0, expected one of"),
        ("schema", ..., "schema: found None, expected one of"),
        ("target", ..., "'target' is missing"),
        ("target", 5, "target: found 5, expected a string"),
        ("target", "a b", "target: found 'a b'"),
        ("surprise", 1, "unknown field 'surprise'"),
        ("model.parameters", 0, r"model.parameters: found 0, expected a number from 1"),
        ("model.parameters", True, "model.parameters: found True, expected a whole number"),
        ("model.extra", 1, "manifest.json.model: found the unknown field 'extra'"),
        ("weights.source", "sto len", "weights.source: found 'sto len', expected 1 to 64 letters"),
        ("weights.sha256", "AB" * 32, "weights.sha256: .* 64 lower-case"),
        ("frontend.fmin", 1e300, "frontend.fmin: found 1e"),
        ("frontend", [], r"frontend: found \[\], expected an object"),
        ("prompt.lowercase", 1, "prompt.lowercase: found 1, expected true or false"),
        ("prompt.pad_id", 64, "prompt.pad_id: found 64, expected less than the vocabulary of 64"),
        ("prompt.prompt_tokens", 100, "max_positions: found 64, expected more than the prefix of 108"),
        ("generation.max_positions", 65, "found 65, expected at most decoder.max_positions = 64"),
        ("components.decoder.weights", "decoder.safetensors", "expected a list"),
        ("components.decoder.weights", ["../x"], r"weights\[0\]: found '../x'"),
        ("components.decoder.engine", None, "engine: found None, expected a string"),
        ("entries", {"../x": {"size": 1, "sha256": "0" * 64}}, "found '../x'"),
        ("capabilities", ["ask", 3], r"capabilities\[1\]: found 3"),
        ("golden.tolerances", {"logits": -1}, r"tolerances\['logits'\]: found -1"),
        ("quality", [], r"quality: found \[\], expected an object"),
    ],
)
def test_manifest_fields(valid: bytes, target: Path, path: str, value: Any, match: str) -> None:
    refuse(target, edited(valid, edit(path, value)), match)


def test_quality_and_provenance_take_any_keys(valid: bytes, target: Path) -> None:
    def add(manifest: dict[str, Any]) -> None:
        manifest["quality"]["new table"] = {"deep": [1, None, {"x": "y"}]}
        manifest["provenance"]["tool"] = "next"

    target.write_bytes(edited(valid, add))
    with Package.open(target) as package:
        assert package.manifest.quality["new table"]["deep"][2] == {"x": "y"}


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"schema": NaN}', b'{"schema": 1e999}', b"[" * 100_000,
        b'{"schema": 1, "schema": 1}', b'{"schema": 1, "x": "\\ud800"}', b'{"schema": ' + b"9" * 5000 + b"}",
        '{"schema": 1}'.encode("utf-16"), b'{"a":' * 5000 + b"1" + b"}" * 5000,
    ],
)  # fmt: skip
def test_manifest_that_is_not_its_json(valid: bytes, target: Path, text: bytes) -> None:
    refuse(target, pack({**contents(valid), "manifest.json": text}), "manifest.json")


def test_writer_refuses_an_invalid_manifest(tmp_path: Path) -> None:
    base = tiny_manifest()
    wrong: list[Manifest] = [
        replace(base, target="two words"),
        replace(base, quality={"x": float("nan")}),
        replace(base, quality={"x": object()}),
        replace(base, provenance={"x": "\ud800"}),
        replace(base, schema=1),
    ]
    for manifest in wrong:
        with pytest.raises(PackageError, match=r"manifest\.json"):
            write_package(tmp_path / "x.alm", manifest, tiny_entries())
    assert list(tmp_path.iterdir()) == []


def test_oversized_manifest(valid: bytes, target: Path) -> None:
    big = contents(valid)["manifest.json"] + b" " * (4 * 1024 * 1024)
    refuse(
        target,
        pack({**contents(valid), "manifest.json": big}),
        "manifest.json has .* bytes, expected at most",
    )


def patched(valid: bytes, position: int, fmt: str, value: int) -> bytes:
    data = bytearray(valid)
    struct.pack_into(fmt, data, position, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("field", "fmt", "value", "match"),
    [
        (8, "<H", 1, "encrypted"),
        (10, "<H", 8, "compressed"),
        (20, "<I", 5, "compressed"),
        (24, "<I", 2**32 - 1, "compressed"),
        (42, "<I", 7, "starts at byte 7"),
        (42, "<I", 2**32 - 1, "starts at byte"),
        (16, "<I", 0, "local header"),
        (8, "<H", 8, "fields that packages do not use"),
        (28, "<H", 0xFFFF, "found an entry named|ends inside"),
        (32, "<H", 4, "directory"),
    ],
)
def test_directory_records(valid: bytes, target: Path, field: int, fmt: str, value: int, match: str) -> None:
    refuse(target, patched(valid, directory_start(valid) + field, fmt, value), match)


@pytest.mark.parametrize(
    ("field", "match"),
    [(4, "split"), (8, "split"), (10, "split"), (12, "says"), (16, "says"), (20, "comment")],
)
def test_end_record(valid: bytes, target: Path, field: int, match: str) -> None:
    refuse(target, patched(valid, len(valid) - 22 + field, "<H", 3), match)


def test_local_header_that_contradicts_the_directory(valid: bytes, target: Path) -> None:
    start, _ = spans(valid)["decoder.onnx"]
    header = valid.rindex(b"PK\3\4", 0, start)
    for position in [*range(header, header + 60), start - 5000, start - 1]:
        data = bytearray(valid)
        data[position] ^= 0x10
        target.write_bytes(bytes(data))
        with pytest.raises(PackageError, match=r"local header of 'decoder\.onnx'"):
            Package.open(target, verify=False)


@settings(max_examples=400)
@given(data=st.data())
def test_fuzz_mutated_package(valid: bytes, target: Path, data: st.DataObject) -> None:
    """Any mutation gives the identical content or a PackageError, never another exception."""
    mutated = bytearray(valid)
    interesting = sorted(
        {0, len(valid), directory_start(valid)} | {edge for span in spans(valid).values() for edge in span}
    )
    near = st.builds(
        lambda edge, delta: min(max(edge + delta, 0), len(valid) - 1),
        st.sampled_from(interesting),
        st.integers(-80, 80),
    )
    anywhere = st.integers(0, len(valid) - 1)
    for _ in range(data.draw(st.integers(1, 4))):
        position = min(data.draw(near | anywhere), max(len(mutated) - 1, 0))
        kind = data.draw(st.sampled_from(["set", "delete", "insert", "copy", "truncate"]))
        if kind == "set":
            replacement = data.draw(st.binary(min_size=1, max_size=4))
            mutated[position : position + len(replacement)] = replacement
        elif kind == "delete":
            del mutated[position : position + data.draw(st.integers(1, 40000))]
        elif kind == "insert":
            mutated[position:position] = data.draw(st.binary(min_size=1, max_size=64))
        elif kind == "copy":
            origin, length = data.draw(anywhere), data.draw(st.integers(1, 200))
            mutated[position : position + length] = valid[origin : origin + length]
        else:
            del mutated[position:]
    target.write_bytes(bytes(mutated))
    try:
        with Package.open(target) as package:
            for name, expected in contents(valid).items():
                assert package.read(name) == expected
    except PackageError:
        pass


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300)
@given(data=st.data())
def test_fuzz_manifest_values(data: st.DataObject) -> None:
    """Any JSON in any place of the manifest is accepted as written or refused with a PackageError."""
    document = json.loads(tiny_manifest().to_json())
    node, key = document, data.draw(st.sampled_from(sorted(document)))
    while isinstance(node[key], dict) and node[key] and data.draw(st.booleans()):
        node, key = node[key], data.draw(st.sampled_from(sorted(node[key])))
    node[key] = data.draw(JSON)
    try:
        manifest = Manifest.from_json(json.dumps(document))
    except PackageError as error:
        assert "manifest.json" in str(error)
    else:
        # A section that is null is one that the family does not have, which is written by leaving it out.
        assert json.loads(manifest.to_json()) == {key: value for key, value in document.items() if value is not None}
