"""Packages as a user meets them: written, opened, read, signed."""

from __future__ import annotations

import gc
import hashlib
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_entries, tiny_manifest, tiny_tensors, write_tiny

from alm.errors import PackageError
from alm.package import Manifest, Package, write_package
from alm.package.signature import sign, verify_signature

PAGE = 16 * 1024


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "tiny.alm"
    write_tiny(target)
    return target


def test_round_trip(path: Path) -> None:
    entries = tiny_entries()
    with Package.open(path) as package:
        assert package.path == path
        assert set(package.manifest.entries) == set(entries)
        for name, data in entries.items():
            assert package.read(name) == data
            assert package.manifest.entries[name].size == len(data)
            assert package.manifest.entries[name].sha256 == hashlib.sha256(data).hexdigest()
        assert package.manifest.components == tiny_manifest().components
        assert package.manifest.weights.attribution == "nobody – Zoë"


def test_writer_returns_what_the_reader_reads(tmp_path: Path) -> None:
    written = write_tiny(tmp_path / "a.alm")
    with Package.open(tmp_path / "a.alm") as package:
        assert package.manifest == written


def test_equal_content_gives_equal_bytes(tmp_path: Path, path: Path) -> None:
    again = tmp_path / "again.alm"
    write_tiny(again)
    assert again.read_bytes() == path.read_bytes()


def test_entries_from_files_equal_entries_from_bytes(tmp_path: Path, path: Path) -> None:
    files = {}
    for name, data in tiny_entries().items():
        files[name] = tmp_path / f"source-{name}"
        files[name].write_bytes(data)
    write_package(tmp_path / "files.alm", tiny_manifest(), files)
    assert (tmp_path / "files.alm").read_bytes() == path.read_bytes()


def test_every_entry_is_aligned_and_any_unzip_reads_it(path: Path) -> None:
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        for info in archive.infolist():
            extra = int.from_bytes(data[info.header_offset + 28 : info.header_offset + 30], "little")
            offset = info.header_offset + 30 + len(info.filename) + extra
            assert info.compress_type == zipfile.ZIP_STORED
            assert offset % PAGE == 0, info.filename
            assert data[offset : offset + info.file_size] == archive.read(info)


def test_tensors_are_views_of_the_map(path: Path) -> None:
    with Package.open(path) as package:
        whole = np.frombuffer(package.view("decoder.safetensors"), np.uint8)
        tensors = package.tensors("decoder.safetensors")
        for name, expected in tiny_tensors().items():
            np.testing.assert_array_equal(tensors[name], expected)
            assert tensors[name].dtype == expected.dtype
            if expected.size:
                assert np.shares_memory(tensors[name], whole)
                assert not tensors[name].flags.writeable
        assert tensors["matrix"].ctypes.data % 64 == 0
        assert tensors["half"].ctypes.data % 64 == 0


def test_tensors_outlive_the_package(path: Path) -> None:
    package = Package.open(path)
    matrix = package.tensors("decoder.safetensors")["matrix"]
    package.close()
    package.close()
    del package
    gc.collect()
    np.testing.assert_array_equal(matrix, tiny_tensors()["matrix"])


def test_closed_package_and_unknown_entry_are_named(path: Path) -> None:
    with (
        Package.open(path) as package,
        pytest.raises(PackageError, match=r"no entry 'nope'.*tokenizer\.json"),
    ):
        package.read("nope")
    with pytest.raises(PackageError, match="closed"):
        package.read("tokenizer.json")


def test_entry_that_is_not_safetensors(path: Path) -> None:
    with Package.open(path) as package, pytest.raises(PackageError, match=r"README\.md: safetensors"):
        package.tensors("README.md")


def test_large_entries_are_in_memory_when_they_are_read_and_once(tmp_path: Path) -> None:
    size = 64 * 1024 * 1024
    entries = tiny_entries() | {"big.bin": bytes(size)}
    write_package(tmp_path / "big.alm", tiny_manifest(), entries)
    del entries
    gc.collect()
    before = _resident()
    with Package.open(tmp_path / "big.alm") as package:
        assert _resident() - before < size // 4
        view = package.view("big.bin")
        assert len(view) == size
        data = package.read("big.bin")
        assert _resident() - before < size * 5 // 4
        assert data == view


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_manifest_json_is_stable() -> None:
    manifest = tiny_manifest()
    text = manifest.to_json()
    assert Manifest.from_json(text) == manifest
    assert Manifest.from_json(text.decode()).to_json() == text


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return _make_keys(tmp_path, "ours")


def _make_keys(folder: Path, name: str, kind: str = "ed25519") -> tuple[Path, Path]:
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    key = ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def test_signature_round_trip(path: Path, keys: tuple[Path, Path]) -> None:
    private, public = keys
    assert sign(path, private) == path.with_name("tiny.alm.sig")
    verify_signature(path, public)


def test_signature_of_another_package_or_key_is_refused(path: Path, keys: tuple[Path, Path]) -> None:
    private, public = keys
    signature = sign(path, private)
    _, stranger = _make_keys(path.parent, "stranger")
    with pytest.raises(PackageError, match="not made for this package with this key"):
        verify_signature(path, stranger)
    write_package(path, tiny_manifest(), tiny_entries() | {"README.md": b"another card"})
    with pytest.raises(PackageError, match="not made for this package with this key"):
        verify_signature(path, public)
    signature.write_bytes(b"short")
    with pytest.raises(PackageError, match="not made for this package"):
        verify_signature(path, public)
    signature.unlink()
    with pytest.raises(PackageError, match=r"tiny\.alm\.sig cannot be read"):
        verify_signature(path, public)


def test_keys_of_the_wrong_kind_are_refused(path: Path, keys: tuple[Path, Path]) -> None:
    private, public = keys
    curve, curve_public = _make_keys(path.parent, "curve", "ec")
    sign(path, private)
    for wrong in (public, path, curve):
        with pytest.raises(PackageError, match=wrong.name):
            sign(path, wrong)
    for wrong in (private, curve_public):
        with pytest.raises(PackageError, match=wrong.name):
            verify_signature(path, wrong)


def test_openssl_checks_the_same_signature(path: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = keys
    signature = sign(path, private)
    manifest = tmp_path / "manifest.json"
    with Package.open(path) as package:
        manifest.write_bytes(package.read("manifest.json"))
    try:
        done = subprocess.run(
            ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", public,
             "-sigfile", signature, "-in", manifest],
            capture_output=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    assert done.returncode == 0, done.stderr
