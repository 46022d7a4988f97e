"""The public side: the published tree as static files over HTTP, for anyone, without an identity.

A raw ASGI application: GET and HEAD, exact paths, no ranges, no listing. A path is served only if it is the canonical
path of a tile that the published tree has; what is read from disk is named by the parsed tile, never by the request.
Everything but the checkpoint is immutable and may be cached for ever.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from pacekeeper.log.published import PublishedTree
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.tlog.tiles import ENTRIES, TilePath, parse_tile_path
from pacekeeper.protocol.tlog.transitions import parse_transition_path

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

SEND_S: Final = 60.0  # a reader that does not take its answer is cut off
_GZIP_LEVEL: Final = 1  # signatures and hashes do not compress; the rest does at any level
_GZIP_FROM: Final = 1_024
_TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")
_BYTES: Final = (b"content-type", b"application/octet-stream")
_FOR_EVER: Final = (b"cache-control", b"public, max-age=31536000, immutable")
_BRIEFLY: Final = (b"cache-control", b"public, max-age=2")
_NEVER: Final = (b"cache-control", b"no-store")
_COMMON: Final[tuple[Header, ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"access-control-allow-origin", b"*"),  # a page that audits in the reader's browser may read it from anywhere
    (b"content-security-policy", b"default-src 'none'"),
)
_ABOUT: Final = """This is the shared log of a Pacekeeper agreement, as static files (C2SP tlog-tiles).

origin       {origin}
fingerprint  {fingerprint}
entries      {size}

/checkpoint      the signed tree head, with the verifiers' cosignatures
/tile/...        the tree's tiles and the entries
/transition/...  the tree heads over each change of the verifiers, from 1 on

Do not believe this page: `pacekeeper audit` verifies it all from the fingerprint, which you have from elsewhere.
"""


class PublicLog:
    """The ASGI application. `published` returns the tree to serve, None before the first publication."""

    def __init__(self, published: Callable[[], PublishedTree | None], origin: str, fingerprint: bytes) -> None:
        self._published = published
        self._origin = origin
        self._fingerprint = fingerprint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status, headers, body = await self._answer(scope)
        head = scope["method"] == "HEAD"
        headers = [*headers, *_COMMON, (b"content-length", str(len(body)).encode())]
        async with asyncio.timeout(SEND_S):
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": b"" if head else body})

    async def _answer(self, scope: Scope) -> tuple[int, list[Header], bytes]:
        """SPEC log-22: only GET and HEAD of canonical paths MUST be answered, and a refusal MUST NOT be cacheable."""
        if scope["method"] not in {"GET", "HEAD"}:
            return 405, [_TEXT, _NEVER, (b"allow", b"GET, HEAD")], b"only GET and HEAD\n"
        path = scope["raw_path"]  # as sent: an encoded slash is not a slash
        tree = self._published()
        if path == b"/":
            return 200, [_TEXT, _BRIEFLY], self._about(tree)
        if tree is None:
            return _not_found()
        if path == b"/checkpoint":
            return 200, [_TEXT, _BRIEFLY], tree.note
        if path.startswith(b"/transition/"):
            return _transition(tree, path[1:].decode("ascii", "replace"))
        try:
            tile = parse_tile_path(path[1:].decode("ascii", "replace")) if path.startswith(b"/tile/") else None
        except Refused:
            tile = None
        return _not_found() if tile is None else await _tile(tree, tile, _accepts_gzip(scope["headers"]))

    def _about(self, tree: PublishedTree | None) -> bytes:
        size = tree.size if tree else 0
        return _ABOUT.format(origin=self._origin, fingerprint=self._fingerprint.hex(), size=size).encode()


def _transition(tree: PublishedTree, path: str) -> tuple[int, list[Header], bytes]:
    """SPEC transition-10: transition checkpoints MUST be served like the checkpoint, and may be cached for ever."""
    try:
        number = parse_transition_path(path)
    except Refused:
        return _not_found()
    if number > len(tree.transitions):
        return _not_found()
    return 200, [_TEXT, _FOR_EVER], tree.transitions[number - 1][1]


async def _tile(tree: PublishedTree, tile: TilePath, gzip: bool) -> tuple[int, list[Header], bytes]:
    try:
        if tile.level != ENTRIES:
            data = tree.read(tile)
            headers = [_BYTES, _FOR_EVER]
        else:
            # A bundle may have megabytes: it is read and compressed outside the event loop.
            data, packed = await asyncio.to_thread(_bundle, tree, tile, gzip)
            headers = [_BYTES, _FOR_EVER, (b"vary", b"accept-encoding")]
            headers.extend([(b"content-encoding", b"gzip")] if packed else [])
    except Refused:
        return 500, [_TEXT, _NEVER], b"this tile is damaged or missing on this server\n"
    return _not_found() if data is None else (200, headers, data)


def _bundle(tree: PublishedTree, tile: TilePath, gzip: bool) -> tuple[bytes | None, bool]:
    data = tree.read(tile)
    if data is None or not gzip or len(data) < _GZIP_FROM:
        return data, False
    pack = zlib.compressobj(_GZIP_LEVEL, wbits=31)
    return pack.compress(data) + pack.flush(), True


def _accepts_gzip(headers: list[Header]) -> bool:
    """Whether an Accept-Encoding field names gzip without a weight of zero."""
    for name, value in headers:
        if name == b"accept-encoding":
            for item in value.lower().split(b","):
                coding, _, weight = item.replace(b" ", b"").partition(b";")
                if coding == b"gzip" and weight.rstrip(b".0") != b"q=":
                    return True
    return False


def _not_found() -> tuple[int, list[Header], bytes]:
    return 404, [_TEXT, _NEVER], b"not found\n"
