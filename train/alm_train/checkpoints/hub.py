"""One request to a file hub: a file from a given byte on, with the size and hash that the hub announces.

The public hub answers with a redirect to a storage host; size and SHA-256 stand in the headers of that
redirect (`X-Linked-Size`, `X-Linked-ETag`), a mirror may put the hash into `ETag`. Only the hub's own
reply is asked for a hash, never the host it redirects to, whose ETag means something else.
"""

from __future__ import annotations

import io
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException
from typing import IO, Any
from urllib.parse import urlsplit

from alm.errors import CheckpointError

TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as broken."""
BLOCK = 1024 * 1024


class Interrupted(Exception):
    """The connection failed in a way that may pass; trying again can help."""


@dataclass(frozen=True)
class Reply:
    """An open reply. Take its blocks or close its body."""

    body: IO[bytes]
    """The bytes from `start` on."""
    start: int
    """Position of the body's first byte in the file: 0 where the server cannot resume."""
    size: int | None
    """Bytes of the whole file, where announced."""
    sha256: str | None
    """SHA-256 of the whole file, where the hub announces it."""

    def blocks(self) -> Iterator[bytes]:
        """The body in blocks; raises Interrupted when the connection breaks."""
        with closing(self.body):
            while True:
                try:
                    block = self.body.read(BLOCK)
                except (OSError, HTTPException) as error:
                    raise Interrupted(str(error) or type(error).__name__) from error
                if not block:
                    return
                yield block


def request(url: str, start: int) -> Reply:
    """Ask for `url` from byte `start` on.

    Raises Interrupted for what may pass (no connection, timeout, 429, 5xx) and CheckpointError for what
    will not (not found, no access, a redirect out of https, an address that is not http).
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise CheckpointError(f"found the address {url!r}, expected one that starts with https:// or http://")
    headers = {"User-Agent": "alm-edge", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    redirects = _Redirects()
    opener = urllib.request.build_opener(redirects)
    try:
        response = opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            return _nothing_left(error.headers, redirects.first or error.headers, start)
        if error.code == 429 or error.code >= 500:
            raise Interrupted(f"{url} answers {error.code} {error.reason}") from error
        raise CheckpointError(_refusal(url, error)) from error
    except (OSError, HTTPException) as error:
        raise Interrupted(f"{urlsplit(url).netloc}: {getattr(error, 'reason', error)}") from error
    return _reply(response, redirects.first or response.headers, start, url)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, remembers the headers of the first, and refuses to leave https."""

    def __init__(self) -> None:
        self.first: Message | None = None

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        self.first = self.first or headers
        allowed = ("https",) if urlsplit(req.full_url).scheme == "https" else ("https", "http")
        if urlsplit(newurl).scheme not in allowed:
            raise CheckpointError(f"{req.full_url} redirects to {newurl}, expected {' or '.join(allowed)}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _reply(response: Any, announced: Message, asked: int, url: str) -> Reply:
    start, size = 0, _number(response.headers.get("Content-Length"))
    if response.status == 206:
        content_range = response.headers.get("Content-Range", "")
        parts = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", content_range)
        if parts is None or int(parts[1]) != asked:
            response.close()
            raise CheckpointError(
                f"{url}: asked for the file from byte {asked} on, found the range {content_range!r}; "
                "the server or a proxy on the way is broken"
            )
        start, size = asked, _number(parts[2])
    linked = _number(announced.get("X-Linked-Size"))
    return Reply(response, start, size if linked is None else linked, _sha256(announced))


def _nothing_left(headers: Message, announced: Message, asked: int) -> Reply:
    """The reply to a range that starts at or behind the end of the file (416)."""
    size = _number(headers.get("Content-Range", "").removeprefix("bytes */"))
    return Reply(io.BytesIO(), asked, size, _sha256(announced))


def _sha256(headers: Message) -> str | None:
    for name in ("X-Linked-ETag", "ETag"):
        tag = (headers.get(name) or "").removeprefix("W/").strip('"').lower()
        if re.fullmatch("[0-9a-f]{64}", tag):
            return tag
    return None


def _number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch("[0-9]{1,18}", text) else None


def _refusal(url: str, error: urllib.error.HTTPError) -> str:
    if error.code == 404:
        return f"{url} does not exist (404); if ALM_HUB is set, check that the mirror has this file"
    return f"{url} is refused: {error.code} {error.reason}"
