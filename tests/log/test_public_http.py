"""The public log over HTTP, through the real server on a loopback port: exact paths, methods, headers, limits."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from agreements import signing_key

from pacekeeper.client import web
from pacekeeper.log.edge import Edge
from pacekeeper.log.files import PublicFiles
from pacekeeper.log.http import PublicLog
from pacekeeper.log.published import PublishedTree
from pacekeeper.log.publisher import Publisher
from pacekeeper.log.store.memory import MemoryStore
from pacekeeper.log.store.port import Batch, Head
from pacekeeper.protocol.tlog.merkle import HashTree, hash_leaves
from pacekeeper.protocol.tlog.tiles import encode_bundle

ENTRIES = [b"entry %d " % number * 8 for number in range(300)]


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Site:
    """A server and a client that sends exactly the bytes it is told to."""

    def __init__(self, port: int, tree: PublishedTree) -> None:
        self.port = port
        self.tree = tree

    async def raw(self, request: bytes, timeout_s: float = 10) -> bytes:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(request)
            data = await reader.read()
            writer.close()
            return data

    async def get(self, target: str, method: str = "GET", **headers: str) -> Answer:
        lines = [f"{method} {target} HTTP/1.1", "Host: log", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        data = await self.raw("\r\n".join([*lines, "", ""]).encode())
        head, _, body = data.partition(b"\r\n\r\n")
        status, *fields = head.decode().split("\r\n")
        pairs = [field.split(": ", 1) for field in fields]
        return Answer(int(status.split()[1]), {name.lower(): value for name, value in pairs}, body)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    store = MemoryStore()
    head = Head(len(ENTRIES), HashTree(hash_leaves(ENTRIES)).root(), 0)
    store.commit(Batch(0, ENTRIES, [hashlib.sha256(entry).digest() for entry in ENTRIES], [], head), None)
    publisher = Publisher(store, PublicFiles(tmp_path), "example.org/log", signing_key("http test"))
    tree = publisher.publish(publisher.prepare(head))
    (tmp_path / "secret").write_text("not public")
    bound = web.bind("127.0.0.1", 0)
    server = web.WebServer(PublicLog(lambda: tree, "example.org/log", bytes(32)), bound)
    task = asyncio.create_task(server.run())
    yield Site(bound.getsockname()[1], tree)
    server.stop()
    await task


async def test_checkpoint_tiles_and_bundles_are_served_with_their_lifetimes(site: Site) -> None:
    """SPEC log-22."""
    checkpoint = await site.get("/checkpoint")
    assert (checkpoint.status, checkpoint.body) == (200, site.tree.note)
    assert checkpoint.headers["content-type"] == "text/plain; charset=utf-8"
    assert checkpoint.headers["cache-control"] == "public, max-age=2"
    tile = await site.get("/tile/0/000")
    assert tile.body == b"".join(hash_leaves(ENTRIES[:256]))
    assert tile.headers["content-type"] == "application/octet-stream"
    assert "immutable" in tile.headers["cache-control"]
    assert (await site.get("/tile/0/001.p/44")).body == b"".join(hash_leaves(ENTRIES[256:]))
    assert (await site.get("/tile/entries/001.p/3")).body == encode_bundle(ENTRIES[256:259])
    assert (await site.get("/tile/entries/000.p/7")).body == encode_bundle(ENTRIES[:7])
    assert (await site.get("/tile/1/000.p/1")).status == 200


async def test_transition_checkpoints_are_served_for_ever(tmp_path: Path) -> None:
    """SPEC transition-10: by their canonical paths, and none that there is not."""
    bound = web.bind("127.0.0.1", 0)
    edge = Edge().snapshot()
    tree = PublishedTree(9, b"note", edge, PublicFiles(tmp_path), ((3, b"first"), (7, b"second")))
    server = web.WebServer(PublicLog(lambda: tree, "example.org/log", bytes(32)), bound)
    task = asyncio.create_task(server.run())
    site = Site(bound.getsockname()[1], tree)
    for number, body in ((1, b"first"), (2, b"second")):
        answer = await site.get(f"/transition/{number}")
        assert (answer.status, answer.body) == (200, body)
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert "immutable" in answer.headers["cache-control"]
    for path in ("0", "3", "01", "", "1/", "1.p/1", "%31", "../checkpoint", "99999999999999999999"):
        answer = await site.get(f"/transition/{path}")
        assert (answer.status, answer.headers["cache-control"]) == (404, "no-store"), path
    server.stop()
    await task


async def test_head_has_the_length_and_no_body(site: Site) -> None:
    answer = await site.get("/tile/0/000", "HEAD")
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "8192", b"")


async def test_a_bundle_is_compressed_for_who_accepts_it_and_a_tile_never(site: Site) -> None:
    packed = await site.get("/tile/entries/000", Accept_Encoding="br, gzip;q=0.5")
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == encode_bundle(ENTRIES[:256])
    for accepted in ("identity", "gzip;q=0", "br"):
        plain = await site.get("/tile/entries/000", Accept_Encoding=accepted)
        assert "content-encoding" not in plain.headers
        assert plain.body == encode_bundle(ENTRIES[:256])
    assert "content-encoding" not in (await site.get("/tile/0/000", Accept_Encoding="gzip")).headers


NO_PATHS = [
    "/tile/0/001.p/45",
    "/tile/0/002",
    "/tile/0/001",
    "/tile/2/000.p/1",
    "/tile/0/",
    "/tile/",
    "/tile",
    "/secret",
    "/tile/../secret",
    "/tile/0/../../secret",
    "/..%2fsecret",
    "/tile%2f0%2f000",
    "/%74ile/0/000",
    "/tile/0/000/",
    "//tile/0/000",
    "/tile/0/x000/000",
    "/tile/00/000",
    "/tile/0/000.p/0",
    "/tile/0/000.p/256",
    "/tile/0/000.p/01",
    "/tile/-1/000",
    "/tile/0/000.p",
    "/tile/0/000.tmp",
    "/checkpoint/",
    "/checkpoint%00",
    "/tile/0/x999/x999/x999/x999/x999/x999/999",
    "/tile/63/000",
    "/favicon.ico",
]


async def test_any_other_path_is_not_found_and_not_cached(site: Site) -> None:
    """SPEC log-22 (FAULTS 45): no traversal, no listing, no second spelling, no tile that the tree has not."""
    for target in NO_PATHS:
        answer = await site.get(target)
        assert (target, answer.status, answer.body) == (target, 404, b"not found\n")
        assert answer.headers["cache-control"] == "no-store"


async def test_other_methods_are_refused_and_ranges_ignored(site: Site) -> None:
    """SPEC log-22 (FAULTS 45)."""
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
        answer = await site.get("/checkpoint", method)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    whole = await site.get("/tile/0/000", Range="bytes=" + ",".join(f"{n}-{n}" for n in range(200)))
    assert (whole.status, len(whole.body)) == (200, 8192)


async def test_a_query_is_no_part_of_the_path(site: Site) -> None:
    assert (await site.get("/checkpoint?size=1")).body == site.tree.note


async def test_the_front_page_says_what_this_is(site: Site) -> None:
    answer = await site.get("/")
    assert answer.status == 200
    assert b"example.org/log" in answer.body
    assert answer.headers["content-type"].startswith("text/plain")


async def test_a_damaged_public_file_is_an_error_and_not_a_tile(site: Site) -> None:
    (site.tree.files.directory / "tile/0/000").unlink()
    answer = await site.get("/tile/0/000")
    assert answer.status == 500
    assert answer.headers["cache-control"] == "no-store"
    assert (await site.get("/checkpoint")).status == 200


async def test_an_oversized_or_malformed_request_is_refused(site: Site) -> None:
    """FAULTS 43, 44: headers beyond the limit, and bytes that are no HTTP."""
    huge = b"GET /checkpoint HTTP/1.1\r\nHost: log\r\n" + b"X: " + b"a" * 70_000
    assert b" 400 " in (await site.raw(huge)).split(b"\r\n")[0]
    assert b" 400 " in (await site.raw(b"\x16\x03\x01\x02\x00\x01\x00 hello\r\n\r\n")).split(b"\r\n")[0]
    assert (await site.get("/checkpoint")).status == 200


async def test_stalled_connections_are_cut_while_others_are_served(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 44: half a request, then silence or one byte now and then; and a connection that says nothing."""
    monkeypatch.setattr(web, "REQUEST_S", 0.3)

    async def stall(first: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(first)
        dripping = asyncio.create_task(_drip(writer))
        try:
            async with asyncio.timeout(10):
                return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            dripping.cancel()

    stalled = [
        asyncio.create_task(stall(first)) for first in (b"", b"GET /checkpoint HTTP/1.1\r\nHo") for _ in range(20)
    ]
    assert (await site.get("/checkpoint")).body == site.tree.note
    assert await asyncio.gather(*stalled) == [b""] * 40


async def _drip(writer: asyncio.StreamWriter) -> None:
    while not writer.is_closing():
        await asyncio.sleep(0.05)
        writer.write(b"a")


async def test_connections_beyond_the_limit_are_closed_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 44: too many connections; those within the limit stay served."""
    monkeypatch.setattr(web, "MAX_CONNECTIONS", 3)
    kept = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(3)]
    for _, writer in kept[:1]:
        writer.write(b"GET /checkpoint HTTP/1.1\r\nHost: log\r\n\r\n")
    assert b" 200 " in await kept[0][0].readline()
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    for _, writer in kept:
        writer.close()


async def test_before_the_first_publication_there_is_only_the_front_page() -> None:
    bound = web.bind("127.0.0.1", 0)
    server = web.WebServer(PublicLog(lambda: None, "example.org/log", bytes(32)), bound)
    task = asyncio.create_task(server.run())
    site = Site(bound.getsockname()[1], None)  # type: ignore[arg-type]
    assert (await site.get("/checkpoint")).status == 404
    assert (await site.get("/tile/0/000")).status == 404
    assert b"entries      0" in (await site.get("/")).body
    server.stop()
    await task
