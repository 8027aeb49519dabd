"""Official weights from their hub: resumed, checked, cached, never trusted blindly.

What "checked" means here. The sizes and hashes of the official files could not be obtained when this was
written, so OFFICIAL does not hold them. The first download is checked against the size and SHA-256 that
the hub itself announces, and what was received is then pinned: a file beside the cached one keeps its
hash, and every later use or download on this machine must match it. That finds broken transfers, broken
disks and later changes on the hub. It does not find a hub that was already dishonest the first time; for
that, compare the hash that `alm inspect` shows with one you got from the authors. A hub that announces no
hash at all is trusted for its bytes on first use, if it states their number.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from alm.errors import CheckpointError
from alm.package.atomic import atomic_write
from alm_train.checkpoints.hub import Interrupted, Reply, request

HUB = "https://huggingface.co"
ZENODO = "https://zenodo.org"
ATTEMPTS = 3
"""Failed connections in a row, without a byte received, before giving up."""
PAUSE = 1.0
"""Seconds before the second attempt; doubled for each further one."""

Progress = Callable[[int, int], None]
"""Called with the bytes present and the bytes of the whole file."""


@dataclass(frozen=True)
class RemoteFile:
    """A file on a hub."""

    path: str
    """Where it lies below the hub's address, and below the cache folder."""
    hub: str = HUB
    """The hub's address."""
    size: int | None = None
    """Bytes, where known beforehand."""
    sha256: str | None = None
    """Hash, where known beforehand."""

    @property
    def url(self) -> str:
        """Address, below the hub or below the mirror that the environment variable ALM_HUB names."""
        return f"{(os.environ.get('ALM_HUB') or self.hub).rstrip('/')}/{self.path}"


_MELLOW = "soham97/mellow/resolve/83672db0dae28764e283210d5bb732621e903d8a"
_ADIFF = "records/14706090/files"
OFFICIAL: dict[str, RemoteFile] = {
    "v0": RemoteFile(f"{_MELLOW}/v0.ckpt"),
    "v0_s": RemoteFile(f"{_MELLOW}/v0_s.ckpt"),
    "2022": RemoteFile("microsoft/msclap/resolve/main/CLAP_weights_2022.pth"),
    "2023": RemoteFile("microsoft/msclap/resolve/main/CLAP_weights_2023.pth"),
    "clapcap": RemoteFile("microsoft/msclap/resolve/main/clapcap_weights_2023.pth"),
    "adiff_base": RemoteFile(f"{_ADIFF}/adiff_base.ckpt", hub=ZENODO),
    "adiff_base_wavcaps": RemoteFile(f"{_ADIFF}/adiff_base_wavcaps.ckpt", hub=ZENODO),
}
"""The authors' checkpoints by the name given to `--weights`: Mellow's and ADIFF's at a fixed revision, those of CLAP at
the newest, because no revision of them could be looked up when this was written."""

BERT_VOCABULARY = RemoteFile(
    "google-bert/bert-base-uncased/resolve/86b5e0934494bd15c9632b12f734a8a67f723594/vocab.txt",
    size=231508,
    sha256="07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
)
"""The tokens of BERT base, uncased, a line each (Apache-2.0)."""


def cache_folder() -> Path:
    """Where downloads are kept: ALM_CACHE, or the user's cache folder."""
    chosen = os.environ.get("ALM_CACHE")
    return Path(chosen) if chosen else user_cache_path("alm-edge")


def fetch(remote: RemoteFile, *, offline: bool = False, progress: Progress | None = None) -> Path:
    """The path of a checked copy of `remote`, downloaded if the cache has none.

    A download that was cut is resumed, by itself and by the next call. One process downloads at a time,
    others wait and share the result. With `offline`, or HF_HUB_OFFLINE set to a true value, nothing is
    requested. Raises CheckpointError for everything that keeps the file from being there and right.
    """
    target = cache_folder() / remote.path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target):
            known = _known(remote, target)
            if target.exists() and _intact(target, known):
                return target
            if offline or _offline_by_environment():
                raise CheckpointError(_not_here(remote, target))
            _download(remote, target, known, progress or (lambda done, total: None))
    except OSError as error:
        advice = "; free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise CheckpointError(
            f"{target} cannot be written: {error}{advice}; ALM_CACHE chooses another folder"
        ) from error
    return target


@dataclass(frozen=True)
class _Facts:
    """What is known about a file's content."""

    size: int | None
    sha256: str | None

    def merged(self, size: int | None, sha256: str | None, told_by: str, name: str) -> _Facts:
        """These facts with what somebody else says; CheckpointError where they contradict."""
        for ours, theirs, what in ((self.size, size, "bytes"), (self.sha256, sha256, "SHA-256")):
            if ours is not None and theirs is not None and ours != theirs:
                raise CheckpointError(
                    f"{name}: {told_by} says {what} {theirs}, expected {ours}; the file was replaced or the "
                    "mirror is wrong, so it is not used"
                )
        return _Facts(size if self.size is None else self.size, sha256 if self.sha256 is None else self.sha256)


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    with _beside(target, ".lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(target.name + ending)


def _known(remote: RemoteFile, target: Path) -> _Facts:
    pin = _beside(target, ".pin")
    facts = _Facts(remote.size, remote.sha256)
    try:
        noted = json.loads(pin.read_text())
        size, sha256 = noted["size"], noted["sha256"]
        valid = isinstance(size, int) and re.fullmatch("[0-9a-f]{64}", sha256)
    except FileNotFoundError:
        return facts
    except (ValueError, KeyError, TypeError):
        valid = None
    if not valid:
        raise CheckpointError(
            f"{pin} is damaged, expected the size and SHA-256 of {target.name}; delete both files to "
            "download and pin them anew"
        )
    return facts.merged(size, sha256, f"the pin of the first download ({pin})", remote.url)


def _intact(target: Path, known: _Facts) -> bool:
    if known.sha256 is None:
        raise CheckpointError(
            f"{target} was not put there by this program, so nothing says whether it is right; "
            "pass it as --weights PATH, or delete it to download it"
        )
    return known.size in (None, target.stat().st_size) and _sha256(target) == known.sha256


def _offline_by_environment() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def _not_here(remote: RemoteFile, target: Path) -> str:
    state = "is damaged" if target.exists() else "is not in the cache"
    # Where the hash is known beforehand, it does not matter who put the file there.
    use = "pass it as --weights PATH" if remote.sha256 is None else "put it there"
    return (
        f"{target} {state} and downloading is switched off (--offline or HF_HUB_OFFLINE); download once "
        f"with a connection, or get {remote.url} elsewhere and {use}"
    )


def _download(remote: RemoteFile, target: Path, known: _Facts, progress: Progress) -> None:
    partial = _beside(target, ".partial")
    failures = 0
    while True:
        present = _length(partial)
        try:
            facts, complete = _transfer(remote, partial, known, progress)
        except Interrupted as error:
            failures = 0 if _length(partial) > present else failures + 1
            if failures == ATTEMPTS:
                other = "" if remote.sha256 is None else f", or get it elsewhere and put it at {target}"
                raise CheckpointError(
                    f"{remote.url} could not be downloaded: {error}; {_length(partial)} bytes are kept, "
                    f"run the same command again to go on from there{other}"
                ) from error
            time.sleep(PAUSE * 2**failures)
            continue
        if complete:
            break
    _accept(remote, target, partial, facts)


def _transfer(remote: RemoteFile, partial: Path, known: _Facts, progress: Progress) -> tuple[_Facts, bool]:
    """One request. Returns what is known now and whether `partial` has all bytes."""
    reply = request(remote.url, _length(partial))
    facts = known.merged(reply.size, reply.sha256, "the hub", remote.url)
    if not _can_go_on(reply, facts):
        reply.body.close()
        partial.unlink()
        return facts, False
    if facts.size is None:
        reply.body.close()
        raise CheckpointError(
            f"{remote.url}: the server does not state the file's size, so a cut download could not be told "
            "from a complete one; use another mirror"
        )
    _check_room(partial, facts.size)
    _append(reply, partial, facts.size, progress)
    length = _length(partial)
    if length < facts.size:
        raise Interrupted(f"the connection ended after {length} of {facts.size} bytes")
    return facts, True


def _can_go_on(reply: Reply, facts: _Facts) -> bool:
    """Whether what `partial` holds can be a beginning of the file; else it is fetched from its start."""
    if reply.start == 0:
        return True
    if facts.size is None or reply.start > facts.size:
        return False
    return reply.start < facts.size or facts.sha256 is not None


def _append(reply: Reply, partial: Path, size: int, progress: Progress) -> None:
    with partial.open("ab") as file:
        file.truncate(reply.start)
        done = reply.start
        progress(done, size)
        for block in reply.blocks():
            done += len(block)
            if done > size:
                break
            file.write(block)
            progress(done, size)
        file.flush()
        os.fsync(file.fileno())
    if done > size:
        partial.unlink()
        raise CheckpointError(f"the hub sent more than the {size} bytes it announced; use another mirror")


def _accept(remote: RemoteFile, target: Path, partial: Path, facts: _Facts) -> None:
    found = _sha256(partial)
    if facts.sha256 not in (None, found):
        partial.unlink()
        raise CheckpointError(
            f"{remote.url}: what arrived has the SHA-256 {found}, expected {facts.sha256}; it was deleted, "
            "run the same command again"
        )
    with atomic_write(_beside(target, ".pin")) as file:
        file.write(json.dumps({"url": remote.url, "size": facts.size, "sha256": found}, indent=1).encode())
    partial.replace(target)


def _check_room(partial: Path, size: int) -> None:
    missing = size - _length(partial)
    free = shutil.disk_usage(partial.parent).free
    if free < missing:
        raise CheckpointError(
            f"{partial.parent} has {free} bytes free, the download needs {missing} more; free some space or "
            "choose another folder with ALM_CACHE"
        )


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
