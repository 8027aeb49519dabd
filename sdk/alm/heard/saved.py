"""A clip session in one file: what was heard, bound to the package that heard it.

The file is safetensors: the audio tokens of each sound, the keys and values of each kept prefix, and a description as
JSON in the metadata. A digest over all of it tells damage. Whoever makes a file on purpose makes its digest too, so
every value is checked besides, before an engine sees it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np

from alm.engines.base import Array, KVCache
from alm.errors import EngineError, PackageError, SessionError, reason_of
from alm.heard.audio_tokens import AudioTokens
from alm.heard.prefix import KEPT_PREFIXES, HeardWindow, Reader, expanded
from alm.package.atomic import atomic_write
from alm.package.manifest import Manifest, section
from alm.package.safetensors import read_metadata, read_tensors, write_tensors
from alm.package.schema import Between, decode, found, parse_json
from alm.package.sections import Sha256

SCHEMA = 1
"""The layout that this version writes and reads."""
DESCRIPTION = "alm-session"
"""Key of the metadata that holds the description."""

Seconds = Annotated[float, Between(0, 1e9)]
Index = Annotated[int, Between(0, 2**31 - 1)]


@dataclass(frozen=True)
class SavedWindow:
    """One window of the session. Its prefix, where the file has it, is the tensor `prefix.N`, N its place."""

    start: Seconds
    """Seconds into the recording at which it starts."""
    end: Seconds
    """Seconds into the recording at which it ends."""
    sounds: tuple[Index, ...]
    """The sounds in the two audio slots; of sound N the tensors are `rows.N` and `repeats.N`."""


@dataclass(frozen=True)
class Description:
    """The metadata of a saved session."""

    package: Sha256
    """Fingerprint of the package that heard it."""
    model: str
    """That package in words."""
    windows: tuple[SavedWindow, ...]
    """In order of time."""
    schema: int = SCHEMA
    """Version of this layout."""
    digest: Sha256 = "0" * 64
    """SHA-256 over everything else; zeros while it is computed."""


def write_session(path: str | Path, heard: Sequence[HeardWindow], reader: Reader, prefixes: bool) -> None:
    """Write what was heard to `path`, which appears complete or not at all; SessionError when it cannot be written.

    With `prefixes` the kept prefixes are written too, 3 MB each at full size in a quantized package.
    """
    sounds = list(dict.fromkeys(tokens for window in heard for tokens in window.slots))
    number = {tokens: index for index, tokens in enumerate(sounds)}
    tensors: dict[str, Array] = {}
    for tokens, index in number.items():
        tensors[f"rows.{index}"], tensors[f"repeats.{index}"] = tokens.rows, tokens.repeats
    for index, window in enumerate(heard):
        if prefixes and window.kept is not None:
            tensors[f"prefix.{index}"] = window.kept.state()
    description = Description(
        package=reader.package.fingerprint,
        model=_in_words(reader.package.manifest),
        windows=tuple(
            SavedWindow(window.start, window.end, tuple(number[tokens] for tokens in window.slots)) for window in heard
        ),
    )
    sealed = dataclasses.replace(description, digest=_digest(description, tensors))
    try:
        with atomic_write(path) as file:
            write_tensors(file, tensors, {DESCRIPTION: json.dumps(dataclasses.asdict(sealed))})
    except OSError as error:
        raise SessionError(f"the session cannot be saved to {path}: {error}") from error


def read_session(path: str | Path, reader: Reader) -> tuple[HeardWindow, ...]:
    """What `write_session` wrote. Prefixes that are not in the file are run.

    SessionError for a file that is damaged, of another schema or of another package than `reader`'s, or that holds
    anything a session cannot hold.
    """
    path = Path(path)
    try:
        # A pipe has no size either, and opening one would wait for its writer.
        if not path.stat().st_size:
            raise SessionError("the file is empty or a pipe, expected a saved session")
        with path.open("rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        tensors = read_tensors(data)
        description = _description(read_metadata(data), reader)
        if _digest(description, tensors) != description.digest:
            raise SessionError("the session is altered: its digest does not match; copy or save it again")
        return _windows(description, tensors, reader)
    except (SessionError, PackageError) as error:
        raise SessionError(f"{path}: {error}") from None
    except (OSError, ValueError) as error:
        raise SessionError(f"{path} cannot be read: {reason_of(error)}") from error


def _description(metadata: Mapping[str, str], reader: Reader) -> Description:
    if DESCRIPTION not in metadata:
        raise SessionError(f"this is no saved session: its metadata lack {DESCRIPTION!r}")
    value = parse_json(metadata[DESCRIPTION], DESCRIPTION)
    schema = value.get("schema") if isinstance(value, dict) else None
    if schema != SCHEMA or isinstance(schema, bool):
        raise SessionError(
            f"found a session of schema {found(schema)}, this version reads {SCHEMA}; save it again with this version"
        )
    description = decode(Description, value, DESCRIPTION)
    package = reader.package
    if description.package != package.fingerprint:
        raise SessionError(
            f"the session was made with the package {description.package[:16]} ({found(description.model)}), and "
            f"{package.path} is {package.fingerprint[:16]} ({_in_words(package.manifest)!r}); restore it with the "
            "package it was made with, or listen to the recording again"
        )
    return description


def _windows(description: Description, tensors: Mapping[str, Array], reader: Reader) -> tuple[HeardWindow, ...]:
    windows = description.windows
    used = {sound for window in windows for sound in window.sounds}
    if not windows or used != set(range(len(used))) or any(len(window.sounds) != 2 for window in windows):
        raise SessionError("the session's windows do not name two sounds each, counted from 0")
    starts = [window.start for window in windows]
    if any(window.start >= window.end for window in windows) or any(a > b for a, b in pairwise(starts)):
        raise SessionError("the session's windows are not in order of time")
    names = {f"{part}.{sound}" for sound in used for part in ("rows", "repeats")}
    keepable = KEPT_PREFIXES if reader.keeps_prefixes else 0
    optional = {f"prefix.{index}" for index in range(len(windows))[:keepable]}
    if not names <= set(tensors) <= names | optional:
        odd = sorted(names - set(tensors) or set(tensors) - names - optional)[0]
        raise SessionError(f"the session's tensors do not fit its windows: {found(odd)} is missing or one too many")
    sounds = [_tokens(tensors, index, reader) for index in range(len(used))]
    heard = []
    for index, window in enumerate(windows):
        slots = sounds[window.sounds[0]], sounds[window.sounds[1]]
        cache = tensors.get(f"prefix.{index}")
        if cache is not None:
            kept: KVCache | None = _prefix(cache, reader)
        else:
            kept = reader.run_prefix(expanded(slots)) if index < keepable else None
        heard.append(HeardWindow(window.start, window.end, slots, kept))
    return tuple(heard)


def _tokens(tensors: Mapping[str, Array], index: int, reader: Reader) -> AudioTokens:
    manifest = reader.package.manifest
    rows, repeats = tensors[f"rows.{index}"], tensors[f"repeats.{index}"]
    if manifest.mapper is not None:
        count, width = 1, manifest.mapper.width
    else:
        count, width = section(manifest.prompt, "prompt").audio_tokens, section(manifest.decoder, "decoder").width
    if rows.dtype != np.float32 or rows.ndim != 2 or rows.shape[1] != width:
        raise SessionError(f"rows.{index} is {rows.dtype} of shape {rows.shape}, expected float32 (rows, {width})")
    # Each is bounded before they are added up, which could overflow.
    fits = repeats.dtype == np.int64 and repeats.shape == rows.shape[:1] and len(repeats) <= count
    if not fits or not ((repeats >= 1) & (repeats <= count)).all() or repeats.sum() != count:
        raise SessionError(f"repeats.{index} does not make {count} audio tokens of the rows of sound {index}")
    if not np.isfinite(rows).all():
        raise SessionError(f"the audio tokens of sound {index} are not all finite numbers")
    return AudioTokens(rows.copy(), repeats.copy())


def _prefix(state: Array, reader: Reader) -> KVCache:
    expected = 2 * (section(reader.package.manifest.prompt, "prompt").audio_tokens + 1)
    try:
        cache = reader.decoder.cache_from(state)
    except EngineError as error:
        raise SessionError(f"a prefix does not fit the decoder: {error}") from None
    if cache.length != expected:
        raise SessionError(f"found a prefix of {cache.length} positions, expected {expected}")
    return cache


def _digest(description: Description, tensors: Mapping[str, Array]) -> str:
    words = dataclasses.asdict(dataclasses.replace(description, digest="0" * 64))
    digest = hashlib.sha256(json.dumps(words, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, tensor.dtype.str, tensor.shape]).encode())
        digest.update(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _in_words(manifest: Manifest) -> str:
    return f"{manifest.model.name}, {manifest.scheme}, for {manifest.target}, on {manifest.engine}"
