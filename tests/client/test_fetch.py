"""Reading a static log from a directory and over HTTP: the right bytes, or a typed fault; never a hang or a flood."""

import gzip
import os
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pacekeeper.client.errors import ConfigError, Outage, TemporaryFailure
from pacekeeper.client.fetch import DirectorySource, HttpSource, Source, max_bytes, open_source
from pacekeeper.protocol import limits
from pacekeeper.protocol.errors import Code, Refused

TILE = bytes(range(256)) * 32
BAD_PATHS = [
    "",
    "/checkpoint",
    "checkpoint/",
    "checkpoint2",
    "./checkpoint",
    "../checkpoint",
    "tile/0/../../checkpoint",
    "tile/0/0",
    "tile/0/000/",
    "tile//0/000",
    "tile/0/x000/000",
    "tile/0/000.p/256",
    "tile/0/000.p/0",
    "tile/0/000.p/01",
    "tile/64/000",
    "tile/entries/000?x",
    "tile/entries/000\n",
    "tile/0/٠٠٠",
    "tile/data/000",
    "/etc/passwd",
]


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """A public directory with a checkpoint, a full tile, a partial one and a bundle."""
    directory = tmp_path / "public"
    for path, data in {
        "checkpoint": b"note",
        "tile/0/000": TILE,
        "tile/0/x001/234.p/5": TILE[:160],
        "tile/entries/000": b"\0\1x" * 256,
    }.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(data)
    return directory


def test_a_path_says_how_much_it_may_hold() -> None:
    """SPEC transport-18: bounded by the path."""
    assert max_bytes("checkpoint") == limits.MAX_NOTE_BYTES
    assert max_bytes("tile/3/123") == 8192
    assert max_bytes("tile/0/000.p/5") == 160
    assert max_bytes("tile/entries/000") == 256 * 65_537
    assert max_bytes("tile/entries/000.p/1") == 65_537


@pytest.mark.parametrize("path", BAD_PATHS)
def test_only_a_logs_own_paths_are_read(public: Path, path: str) -> None:
    """SPEC transport-18: only `checkpoint` and canonical tile paths, from whatever source."""
    sources: list[Source] = [DirectorySource(public), HttpSource("http://127.0.0.1:1/", attempts=1)]
    for source in sources:
        with pytest.raises(Refused) as caught:
            source.read(path)
        assert caught.value.code is Code.MALFORMED
        source.close()


def test_a_directory_is_read(public: Path) -> None:
    source = DirectorySource(public)
    assert source.read("checkpoint") == b"note"
    assert source.read("tile/0/000") == TILE
    assert source.read("tile/0/x001/234.p/5") == TILE[:160]
    assert source.read("tile/entries/000") == b"\0\1x" * 256
    assert source.read("tile/1/000") is None
    assert source.read("tile/entries/x001/000") is None
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        source.read("tile/0/000")
        source.read("tile/6/000")
    assert len(os.listdir("/proc/self/fd")) == before
    source.close()
    source.close()


def test_links_are_not_followed(public: Path, tmp_path: Path) -> None:
    """SPEC transport-19: neither as a file nor as a directory on the way, in or out of the directory."""
    secret = tmp_path / "secret"
    (secret / "x001").mkdir(parents=True)
    (secret / "000").write_bytes(TILE)
    (secret / "x001" / "000").write_bytes(TILE)
    (public / "checkpoint").unlink()
    (public / "checkpoint").symlink_to(secret / "000")
    (public / "tile" / "1").symlink_to(secret)
    (public / "tile" / "2").mkdir()
    (public / "tile" / "2" / "000").symlink_to(public / "tile" / "0" / "000")
    (public / "tile" / "2" / "x001").symlink_to(secret / "x001", target_is_directory=True)
    source = DirectorySource(public)
    for path, code in {
        "checkpoint": Code.BAD_CHECKPOINT,
        "tile/1/000": Code.BAD_TILE,
        "tile/1/x001/000": Code.BAD_TILE,
        "tile/2/000": Code.BAD_TILE,
        "tile/2/x001/000": Code.BAD_TILE,
    }.items():
        with pytest.raises(Refused) as caught:
            source.read(path)
        assert caught.value.code is code
        assert path in caught.value.message
    source.close()


def test_what_is_not_a_file_is_refused_without_waiting(public: Path) -> None:
    (public / "tile" / "0" / "001").mkdir()
    os.mkfifo(public / "tile" / "0" / "002")
    (public / "tile" / "0" / "x003").write_bytes(b"")
    source = DirectorySource(public)
    for path in ["tile/0/001", "tile/0/002", "tile/0/x003/000"]:
        with pytest.raises(Refused) as caught:
            source.read(path)
        assert caught.value.code is Code.BAD_TILE
    source.close()


def test_a_file_that_is_too_large_is_refused(public: Path) -> None:
    """SPEC transport-18: bounded, also where the file is sparse and says to be enormous."""
    (public / "tile" / "0" / "000").write_bytes(TILE + b"x")
    with (public / "checkpoint").open("wb") as file:
        file.truncate(2**40)
    source = DirectorySource(public)
    for path in ["tile/0/000", "checkpoint"]:
        with pytest.raises(Refused) as caught:
            source.read(path)
        assert caught.value.code is Code.TOO_LARGE
    source.close()


@pytest.mark.parametrize("inside", ["public", "state/public", "log/state/public"])
def test_a_log_is_found_where_its_state_keeps_it(public: Path, tmp_path: Path, inside: str) -> None:
    place = tmp_path / "demo" / inside
    place.parent.mkdir(parents=True)
    public.rename(place)
    for location in [tmp_path / "demo", place]:
        source = open_source(str(location))
        assert source.read("checkpoint") == b"note"
        source.close()


def test_a_directory_without_a_log_is_a_sentence(tmp_path: Path) -> None:
    for location in [str(tmp_path), str(tmp_path / "missing"), "", "ftp://host/", "http://", "http://a b/"]:
        with pytest.raises(ConfigError):
            open_source(location)
    for url in [
        "http://host:99999/",
        "http://host/?a",
        "https://me:pw@host/",
        "http://host/a\r\nX: y",
        "http://host/é",
    ]:
        with pytest.raises(ConfigError):
            HttpSource(url)


def test_tiles_without_a_checkpoint_are_a_log_with_a_fault(public: Path) -> None:
    (public / "checkpoint").unlink()
    source = open_source(str(public.parent))
    assert source.read("checkpoint") is None
    source.close()


Answer = Callable[[BaseHTTPRequestHandler], None]


class WebServer:
    """A real HTTP server whose answers a test writes; it counts requests and connections."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []  # used up from the front; the last one stays
        self.requests: list[str] = []
        self.connections: set[object] = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.requests.append(self.path)
                outer.connections.add(self.client_address)
                answer = outer.answers[0] if len(outer.answers) == 1 else outer.answers.pop(0)
                answer(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its base class names it
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """Say nothing: many of these clients hang up in the middle, and are meant to."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/log"


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    thread = threading.Thread(target=server.server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.server.shutdown()
    thread.join()
    server.server.server_close()


def say(status: int, body: bytes = b"", headers: dict[str, str] | None = None, length: int | None = None) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)
        if length is not None and length != len(body):
            handler.close_connection = True

    return answer


@contextmanager
def source_of(web: WebServer, deadline_s: float = 20) -> Iterator[HttpSource]:
    source = HttpSource(web.url, deadline_s=deadline_s, backoff_s=0.01)
    yield source
    source.close()


def test_http_is_read_over_one_connection(web: WebServer) -> None:
    web.answers = [say(200, TILE), say(404, b"x" * 500), say(410), say(200, b""), say(200, b"note")]
    with source_of(web) as source:
        assert source.read("tile/0/000") == TILE
        assert source.read("tile/0/001.p/1") is None
        assert source.read("tile/0/001") is None
        assert source.read("tile/0/002") == b""
        assert source.read("checkpoint") == b"note"
    assert web.requests == [
        "/log/tile/0/000",
        "/log/tile/0/001.p/1",
        "/log/tile/0/001",
        "/log/tile/0/002",
        "/log/checkpoint",
    ]
    assert len(web.connections) == 1


def test_each_thread_has_its_own_connection(web: WebServer) -> None:
    web.answers = [say(200, TILE)]
    with source_of(web) as source:
        read = [threading.Thread(target=source.read, args=("tile/0/000",)) for _ in range(3)]
        for thread in read:
            thread.start()
        for thread in read:
            thread.join()
    assert len(web.requests) == 3
    assert len(web.connections) == 3


def test_gzip_is_unpacked(web: WebServer) -> None:
    packed = {"Content-Encoding": "gzip"}
    web.answers = [say(200, gzip.compress(TILE), packed), say(200, gzip.compress(b""), packed)]
    with source_of(web) as source:
        assert source.read("tile/0/000") == TILE
        assert source.read("tile/0/000") == b""


def test_chunks_and_a_closing_server_are_understood(web: WebServer) -> None:
    def chunked(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for start in range(0, len(TILE), 1000):
            part = TILE[start : start + 1000]
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
        handler.wfile.write(b"0\r\n\r\n")

    def until_closed(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(TILE)

    web.answers = [chunked, until_closed, say(200, b"note")]
    with source_of(web) as source:
        assert source.read("tile/0/000") == TILE
        assert source.read("tile/0/000") == TILE
        assert source.read("checkpoint") == b"note"


def test_a_gzip_bomb_is_not_unpacked(web: WebServer) -> None:
    """SPEC transport-20: bounded as decompressed; 100 MB of zeros are 100 kB on the wire."""
    bomb = gzip.compress(bytes(100_000_000), 1)
    web.answers = [say(200, bomb, {"Content-Encoding": "gzip"})]
    with source_of(web) as source, pytest.raises(Refused) as caught:
        source.read("tile/0/000")
    assert caught.value.code is Code.TOO_LARGE
    assert len(web.requests) == 1


def test_compressed_nothing_without_end_is_cut_off(web: WebServer) -> None:
    """SPEC transport-20: bytes that unpack to nothing are counted too."""
    packer = zlib.compressobj(wbits=31)
    head = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    web.answers = [say(200, head + b"\x00\x00\x00\xff\xff" * 1_000_000, {"Content-Encoding": "gzip"})]
    with source_of(web) as source, pytest.raises(Refused) as caught:
        source.read("tile/0/000")
    assert caught.value.code is Code.TOO_LARGE


@pytest.mark.parametrize("body", [TILE + b"x", bytes(1_000_000)])
def test_a_body_that_is_too_large_is_refused(web: WebServer, body: bytes) -> None:
    web.answers = [say(200, body), say(200, b"note")]
    with source_of(web) as source:
        with pytest.raises(Refused) as caught:
            source.read("tile/0/000")
        assert caught.value.code is Code.TOO_LARGE
        assert source.read("checkpoint") == b"note"


@pytest.mark.parametrize(
    "body",
    [
        TILE,
        gzip.compress(TILE)[:-1],
        gzip.compress(TILE)[:-9],
        gzip.compress(TILE) + b"x",
        gzip.compress(TILE) * 2,
        b"",
    ],
    ids=["plain", "cut", "cut in its data", "followed", "twice", "empty"],
)
def test_damaged_gzip_is_refused(web: WebServer, body: bytes) -> None:
    web.answers = [say(200, body, {"Content-Encoding": "gzip"}), say(200, b"note")]
    with source_of(web) as source:
        with pytest.raises(Refused) as caught:
            source.read("tile/0/000")
        assert caught.value.code is Code.BAD_TILE
        assert source.read("checkpoint") == b"note"


def test_server_errors_and_broken_connections_are_tried_again(web: WebServer) -> None:
    def hang_up(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True

    web.answers = [say(503), hang_up, say(200, TILE[:100], length=8192), say(429), say(200, TILE)]
    with source_of(web) as source:
        assert source.read("tile/0/000") == TILE
    assert len(web.requests) == 5


def test_patience_ends(web: WebServer) -> None:
    web.answers = [say(503)]
    with source_of(web) as source, pytest.raises(TemporaryFailure, match="the server answers 503") as caught:
        source.read("tile/0/000")
    assert caught.value.code == Outage.UNREACHABLE
    assert len(web.requests) == 5


@pytest.mark.parametrize("status", [301, 302, 307, 400, 403, 204, 206])
def test_other_answers_are_no_answer(web: WebServer, status: int) -> None:
    """A redirection is not followed: the log's URL is the one in the agreement."""
    body = b"" if status == 204 else b"x"
    web.answers = [say(status, body, {"Location": web.url + "/checkpoint"})]
    with source_of(web) as source, pytest.raises(TemporaryFailure) as caught:
        source.read("tile/0/000")
    assert caught.value.code == Outage.SERVER_ERROR
    assert len(web.requests) == 1


def test_an_unasked_encoding_is_not_guessed_at(web: WebServer) -> None:
    web.answers = [say(200, TILE, {"Content-Encoding": "br"})]
    with source_of(web) as source, pytest.raises(Refused) as caught:
        source.read("tile/0/000")
    assert caught.value.code is Code.BAD_TILE


def test_nobody_there_is_temporary() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    source = HttpSource(f"http://127.0.0.1:{port}", backoff_s=0.01)
    with pytest.raises(TemporaryFailure) as caught:
        source.read("checkpoint")
    assert caught.value.code == Outage.UNREACHABLE
    source.close()


@pytest.mark.parametrize("part", ["nothing", "headers", "body"])
def test_a_server_that_drips_is_left_at_the_deadline(web: WebServer, part: str) -> None:
    """SPEC transport-20: one deadline for the whole read; a byte now and then does not move it."""
    stop = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        if part != "nothing":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        if part == "body":
            handler.wfile.write(b"Content-Length: 8192\r\n\r\n")
        while not stop.wait(0.02):
            try:
                handler.wfile.write(b"" if part == "nothing" else b"x")
            except OSError:
                return

    web.answers = [drip]
    started = time.monotonic()
    with source_of(web, deadline_s=0.4) as source, pytest.raises(TemporaryFailure) as caught:
        source.read("tile/0/000")
    assert caught.value.code == Outage.DEADLINE_EXCEEDED
    assert time.monotonic() - started < 10  # it ended; how soon is not this test's matter
    stop.set()


def test_the_environments_proxy_is_ignored(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1/")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1/")
    web.answers = [say(200, b"note")]
    with source_of(web) as source:
        assert source.read("checkpoint") == b"note"
