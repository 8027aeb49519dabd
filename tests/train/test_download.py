"""Downloads against a hub on this machine that misbehaves in every way seen in the wild."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alm.errors import CheckpointError
from alm_train.checkpoints import download
from alm_train.checkpoints.download import OFFICIAL, RemoteFile, cache_folder, fetch

DATA = np.random.default_rng(0).integers(0, 256, 3_000_000, dtype=np.uint8).tobytes()
SHA256 = hashlib.sha256(DATA).hexdigest()
REMOTE = RemoteFile("owner/model/resolve/rev/v0.ckpt")


@dataclass
class Hub:
    """What the server does; a test changes it."""

    data: bytes = DATA
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": f'"{SHA256}"'})
    redirect: bool = False
    ranges: bool = True
    length: bool = True
    cuts: list[int] = field(default_factory=list)
    """Bytes after which the next replies are cut."""
    failures: list[int] = field(default_factory=list)
    """Status codes of the next replies."""
    seen: list[str] = field(default_factory=list)
    """Range header of each request for data, or its status."""
    address: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        if self.failures:
            code = self.failures.pop(0)
            self.seen.append(str(code))
            request.send_error(code)
        elif request.path != "/" + REMOTE.path and request.path != "/storage":
            request.send_error(404)
        elif self.redirect and request.path != "/storage":
            request.send_response(302)
            self._send(request, {"Location": f"{self.address}/storage", "Content-Length": "0"} | self.headers)
        else:
            self._data(request)

    def _data(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        self.seen.append(asked or "whole")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.ranges else 0
        headers = {} if self.redirect else dict(self.headers)
        if self.redirect:
            headers["ETag"] = f'"{"e" * 64}"'  # the storage host's own, no hash of the file
        if start >= len(self.data):
            request.send_response(416)
            self._send(request, {"Content-Range": f"bytes */{len(self.data)}", "Content-Length": "0"} | headers)
            return
        body = self.data[start:]
        request.send_response(206 if asked and self.ranges else 200)
        if asked and self.ranges:
            headers["Content-Range"] = f"bytes {start}-{len(self.data) - 1}/{len(self.data)}"
        if self.length:
            headers["Content-Length"] = str(len(body))
        self._send(request, headers)
        request.wfile.write(body[: self.cuts.pop(0)] if self.cuts else body)

    def _send(self, request: BaseHTTPRequestHandler, headers: dict[str, str]) -> None:
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.answer(self)

        def log_message(self, *_: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """A client that hangs up is part of these tests."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("ALM_HUB", state.address)
    monkeypatch.setenv("ALM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(download, "PAUSE", 0.0)
    yield state
    server.shutdown()
    server.server_close()


def beside(ending: str) -> Path:
    return cache_folder() / (REMOTE.path + ending)


def pinned() -> dict[str, Any]:
    return dict(json.loads(beside(".pin").read_text()))


def test_first_use_downloads_checks_and_pins(hub: Hub) -> None:
    calls: list[tuple[int, int]] = []
    path = fetch(REMOTE, progress=lambda done, total: calls.append((done, total)))
    assert path.read_bytes() == DATA
    assert path.is_relative_to(cache_folder())
    assert pinned() == {"url": REMOTE.url, "size": len(DATA), "sha256": SHA256}
    assert not beside(".partial").exists()
    assert calls[0] == (0, len(DATA)) and calls[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_second_use_asks_nobody(hub: Hub) -> None:
    fetch(REMOTE)
    hub.seen.clear()
    assert fetch(REMOTE).read_bytes() == DATA
    assert hub.seen == []


def test_hash_and_size_of_the_first_redirect_count(hub: Hub) -> None:
    hub.redirect = True
    hub.headers = {"X-Linked-ETag": f'"{SHA256}"', "X-Linked-Size": str(len(DATA))}
    assert fetch(REMOTE).read_bytes() == DATA
    assert pinned()["sha256"] == SHA256


def test_a_file_whose_hash_is_known_may_be_put_there(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    known = dataclasses.replace(REMOTE, sha256=SHA256)
    hub.cuts = [0, 0, 0]
    with pytest.raises(CheckpointError, match=f"or get it elsewhere and put it at {beside('')}$"):
        fetch(known)
    with pytest.raises(CheckpointError, match=r"elsewhere and put it there$"):
        fetch(known, offline=True)
    beside("").write_bytes(DATA)
    hub.seen.clear()
    assert fetch(known, offline=True).read_bytes() == DATA
    assert hub.seen == []
    beside("").write_bytes(DATA[:-1])
    with pytest.raises(CheckpointError, match="is damaged"):
        fetch(known, offline=True)


def test_redirect_may_not_lead_elsewhere(hub: Hub) -> None:
    hub.redirect = True
    hub.address = "ftp://127.0.0.1"
    with pytest.raises(CheckpointError, match=r"redirects to ftp://127\.0\.0\.1/storage, expected https or http"):
        fetch(REMOTE)


def test_cut_connections_are_resumed_at_once(hub: Hub) -> None:
    hub.cuts = [1_000_000, 500_000, 700_000]
    assert fetch(REMOTE).read_bytes() == DATA
    assert hub.seen == ["whole", "bytes=1000000-", "bytes=1500000-", "bytes=2200000-"]


def test_a_later_call_goes_on(hub: Hub) -> None:
    hub.cuts = [1_000_000, 0, 0, 0]
    with pytest.raises(
        CheckpointError, match=r"1000000 bytes are kept, run the same command again to go on from there$"
    ):
        fetch(REMOTE)
    assert beside(".partial").read_bytes() == DATA[:1_000_000]
    assert not beside("").exists()
    hub.cuts.clear()
    hub.seen.clear()
    assert fetch(REMOTE).read_bytes() == DATA
    assert hub.seen == ["bytes=1000000-"]


def test_ctrl_c_keeps_what_arrived(hub: Hub) -> None:
    def interrupt(done: int, total: int) -> None:
        if done > 1_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(REMOTE, progress=interrupt)
    kept = beside(".partial").stat().st_size
    assert 1_000_000 < kept < len(DATA)
    assert not beside("").exists()
    hub.seen.clear()
    assert fetch(REMOTE).read_bytes() == DATA
    assert hub.seen == [f"bytes={kept}-"]


def test_server_that_ignores_ranges(hub: Hub) -> None:
    hub.ranges = False
    hub.cuts = [1_000_000]
    assert fetch(REMOTE).read_bytes() == DATA
    assert hub.seen == ["whole", "bytes=1000000-"]


@pytest.mark.parametrize("extra", [b"", b"too long"])
@pytest.mark.parametrize("redirect", [False, True])
def test_partial_file_that_has_all_bytes_or_more(hub: Hub, extra: bytes, redirect: bool) -> None:
    hub.redirect = redirect
    hub.headers = {"X-Linked-ETag": f'"{SHA256}"'}
    beside(".partial").parent.mkdir(parents=True)
    beside(".partial").write_bytes(DATA + extra)
    assert fetch(REMOTE).read_bytes() == DATA


def test_partial_file_of_something_else_is_thrown_away(hub: Hub) -> None:
    beside(".partial").parent.mkdir(parents=True)
    beside(".partial").write_bytes(b"x" * 1000)
    with pytest.raises(CheckpointError, match=f"expected {SHA256}; it was deleted"):
        fetch(REMOTE)
    assert not beside(".partial").exists()
    assert fetch(REMOTE).read_bytes() == DATA


def test_complete_partial_file_is_not_trusted_without_a_hash(hub: Hub) -> None:
    hub.headers = {}
    beside(".partial").parent.mkdir(parents=True)
    beside(".partial").write_bytes(b"x" * len(DATA))
    assert fetch(REMOTE).read_bytes() == DATA


def test_altered_on_the_way(hub: Hub) -> None:
    hub.data = b"\0" + DATA[1:]
    with pytest.raises(CheckpointError, match=f"SHA-256 {hashlib.sha256(hub.data).hexdigest()}, expected {SHA256}"):
        fetch(REMOTE)
    assert not beside("").exists() and not beside(".partial").exists() and not beside(".pin").exists()


@pytest.mark.parametrize(
    ("remote", "match"),
    [
        (RemoteFile(REMOTE.path, sha256="a" * 64), f"the hub says SHA-256 {SHA256}, expected {'a' * 64}"),
        (RemoteFile(REMOTE.path, size=5), "the hub says bytes 3000000, expected 5"),
    ],
)
def test_hub_contradicts_what_is_known(hub: Hub, remote: RemoteFile, match: str) -> None:
    with pytest.raises(CheckpointError, match=match):
        fetch(remote)
    assert not beside("").exists() and not beside(".partial").exists()


def test_known_hash_is_checked_when_the_hub_announces_none(hub: Hub) -> None:
    hub.headers = {"ETag": '"abc"'}
    with pytest.raises(CheckpointError, match=f"has the SHA-256 {SHA256}, expected {'a' * 64}"):
        fetch(RemoteFile(REMOTE.path, sha256="a" * 64))
    assert fetch(RemoteFile(REMOTE.path, size=len(DATA), sha256=SHA256)).read_bytes() == DATA


def test_without_any_hash_the_first_bytes_are_pinned(hub: Hub) -> None:
    hub.headers = {}
    fetch(REMOTE)
    assert pinned()["sha256"] == SHA256


def test_later_downloads_must_match_the_pin(hub: Hub) -> None:
    fetch(REMOTE).unlink()
    hub.data = DATA[::-1]
    hub.headers = {"ETag": hashlib.sha256(hub.data).hexdigest()}
    with pytest.raises(CheckpointError, match=r"the hub says SHA-256 .*; the file was replaced"):
        fetch(REMOTE)
    hub.headers = {}
    with pytest.raises(CheckpointError, match=f"expected {SHA256}; it was deleted"):
        fetch(REMOTE)
    with pytest.raises(CheckpointError, match=r"the pin of the first download .*\.pin\) says SHA-256"):
        fetch(RemoteFile(REMOTE.path, sha256="a" * 64))
    assert not beside("").exists()


def test_damaged_cache_is_downloaded_again(hub: Hub) -> None:
    path = fetch(REMOTE)
    for damaged in (DATA[:-1], b"\0" + DATA[1:], b""):
        path.write_bytes(damaged)
        assert fetch(REMOTE).read_bytes() == DATA


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"size": 3}', '{"size": 3, "sha256": "x"}', '{"size": 3, "sha256": 4}']
)
def test_damaged_pin(hub: Hub, text: str) -> None:
    fetch(REMOTE)
    beside(".pin").write_text(text)
    with pytest.raises(CheckpointError, match=r"v0\.ckpt\.pin is damaged"):
        fetch(REMOTE)


def test_file_of_unknown_origin_in_the_cache(hub: Hub) -> None:
    beside("").parent.mkdir(parents=True)
    beside("").write_bytes(DATA)
    with pytest.raises(CheckpointError, match=r"not put there by this program.*--weights PATH"):
        fetch(REMOTE)
    assert fetch(RemoteFile(REMOTE.path, sha256=SHA256)).read_bytes() == DATA


def test_more_bytes_than_announced(hub: Hub) -> None:
    hub.headers = {"X-Linked-Size": "1000"}
    seen: list[int] = []
    with pytest.raises(CheckpointError, match="sent more than the 1000 bytes it announced"):
        fetch(REMOTE, progress=lambda done, total: seen.append(done))
    assert seen == [0]
    assert not beside(".partial").exists()


def test_size_that_nobody_states(hub: Hub) -> None:
    hub.length = False
    with pytest.raises(CheckpointError, match="does not state the file's size"):
        fetch(REMOTE)
    assert fetch(RemoteFile(REMOTE.path, size=len(DATA))).read_bytes() == DATA


def test_not_found(hub: Hub) -> None:
    with pytest.raises(CheckpointError, match=r"/nowhere/v0\.ckpt does not exist \(404\).*ALM_HUB"):
        fetch(RemoteFile("nowhere/v0.ckpt"))


def test_refused(hub: Hub) -> None:
    hub.failures = [403]
    with pytest.raises(CheckpointError, match="is refused: 403 Forbidden"):
        fetch(REMOTE)


def test_failures_that_pass(hub: Hub) -> None:
    hub.failures = [503, 429]
    assert fetch(REMOTE).read_bytes() == DATA
    assert hub.seen == ["503", "429", "whole"]


def test_failures_that_do_not_pass(hub: Hub) -> None:
    hub.failures = [500] * 10
    with pytest.raises(CheckpointError, match=r"could not be downloaded: .* answers 500"):
        fetch(REMOTE)
    assert hub.seen == ["500"] * 3


def test_nobody_listens(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALM_HUB", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"could not be downloaded: 127\.0\.0\.1:9: .*refused"):
        fetch(REMOTE)


@pytest.mark.parametrize("address", ["file:///etc", "ftp://example.org", "example.org", "https//x"])
def test_addresses_that_are_not_http(hub: Hub, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("ALM_HUB", address)
    with pytest.raises(CheckpointError, match="expected one that starts with https:// or http://"):
        fetch(REMOTE)


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    offline = how == "argument"
    if not offline:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match=r"is not in the cache and downloading is switched off.*--weights PATH"):
        fetch(REMOTE, offline=offline)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    path = fetch(REMOTE)
    hub.seen.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "0" if offline else "TRUE")
    assert fetch(REMOTE, offline=offline).read_bytes() == DATA
    path.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="is damaged and downloading is switched off"):
        fetch(REMOTE, offline=offline)
    assert hub.seen == []


def test_no_room(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(Path())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(CheckpointError, match=r"1000000 bytes free, the download needs 3000000 more.*ALM_CACHE"):
        fetch(REMOTE)
    assert not beside("").exists()


def test_disk_fills_up_while_writing(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download.os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device; free some space"):
        fetch(REMOTE)
    assert not beside("").exists()


def test_cache_that_cannot_be_a_folder(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("ALM_CACHE", str(tmp_path / "file"))
    with pytest.raises(CheckpointError, match=r"cannot be written.*ALM_CACHE chooses another folder"):
        fetch(REMOTE)


def test_many_at_once_download_once(hub: Hub) -> None:
    results: list[bytes] = []
    threads = [threading.Thread(target=lambda: results.append(fetch(REMOTE).read_bytes())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [DATA] * 4
    assert hub.seen == ["whole"]


def test_official_files_are_at_a_fixed_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALM_HUB", raising=False)
    for name in ("v0", "v0_s"):
        assert OFFICIAL[name].url == (
            f"https://huggingface.co/soham97/mellow/resolve/83672db0dae28764e283210d5bb732621e903d8a/{name}.ckpt"
        )
    monkeypatch.setenv("ALM_HUB", "https://mirror.example/hub/")
    assert OFFICIAL["v0"].url.startswith("https://mirror.example/hub/soham97/")


def test_cache_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ALM_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "alm-edge"
