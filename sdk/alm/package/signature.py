"""Optional ed25519 signature of a package, detached in a file beside it.

The manifest holds the size and SHA-256 of every entry and a package has no byte outside its entries
and their structure, so a signature of the bytes of manifest.json covers the whole package. It is 64
raw bytes; `openssl pkeyutl -verify -rawin` checks the same pair. Keys are PEM files, such as
`openssl genpkey -algorithm ed25519` makes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alm.errors import DependencyError, PackageError
from alm.package.archive import MANIFEST
from alm.package.atomic import atomic_write
from alm.package.reader import Package

SUFFIX = ".sig"
"""What is appended to the package's file name."""


def sign(path: str | Path, private_key: str | Path) -> Path:
    """Check the package, sign it with the PEM private key at `private_key`, return the signature's path.

    Raises PackageError for a damaged package or an unusable key, DependencyError without `cryptography`.
    """
    serialization, ed25519, exceptions = _cryptography()
    try:
        key = serialization.load_pem_private_key(_read(private_key), password=None)
    except (ValueError, TypeError, exceptions.UnsupportedAlgorithm) as error:
        raise PackageError(f"{private_key} is not an unencrypted PEM private key: {error}") from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise PackageError(f"{private_key} is a {type(key).__name__}, expected an ed25519 private key")
    with Package.open(path) as package:
        signature = key.sign(package.read(MANIFEST))
    beside = _beside(path)
    try:
        with atomic_write(beside) as file:
            file.write(signature)
    except OSError as error:
        raise PackageError(f"{beside} could not be written: {error}") from error
    return beside


def verify_signature(path: str | Path, public_key: str | Path) -> None:
    """Return if the package is intact and its signature was made with the key; else raise PackageError."""
    serialization, ed25519, exceptions = _cryptography()
    try:
        key = serialization.load_pem_public_key(_read(public_key))
    except (ValueError, exceptions.UnsupportedAlgorithm) as error:
        raise PackageError(f"{public_key} is not a PEM public key: {error}") from None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise PackageError(f"{public_key} is a {type(key).__name__}, expected an ed25519 public key")
    signature = _read(_beside(path))
    with Package.open(path) as package:
        try:
            key.verify(signature, package.read(MANIFEST))
        except exceptions.InvalidSignature:
            raise PackageError(
                f"{path}: the signature in {_beside(path).name} was not made for this package with this key; "
                "get the package and its signature from their author again"
            ) from None


def _beside(path: str | Path) -> Path:
    path = Path(path)
    return path.with_name(path.name + SUFFIX)


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise PackageError(f"{path} cannot be read: {error.strerror}") from error


def _cryptography() -> tuple[Any, Any, Any]:
    try:
        from cryptography import exceptions
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise DependencyError(
            "signatures need the package 'cryptography'; install it with: pip install 'alm-edge[sign]'"
        ) from error
    return serialization, ed25519, exceptions
