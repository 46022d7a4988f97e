"""The public witness over HTTP, through the real server on a loopback port: answers, memory, and abuse."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pacekeeper.client import web
from pacekeeper.client.keyfiles import create_key, create_mldsa_key
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.keys import SigningKey
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, sign_checkpoint
from pacekeeper.protocol.tlog.cosignature import cosignature_time
from pacekeeper.protocol.tlog.merkle import HashTree, hash_leaves
from pacekeeper.protocol.tlog.note import ED25519, NoteKey, format_vkey, open_note, parse_signatures
from pacekeeper.protocol.tlog.witness import MAX_REQUEST_BYTES, AddCheckpoint, Rejection, decide, format_request
from pacekeeper.verifier.marker import KeyMarker
from pacekeeper.verifier.public import desk as desk_module
from pacekeeper.verifier.public import service
from pacekeeper.verifier.public.desk import WitnessDesk
from pacekeeper.verifier.public.service import WitnessService
from pacekeeper.verifier.public.settings import WitnessSettings, load_settings
from pacekeeper.verifier.public.store import WitnessStore

ORIGIN = "example.org/pacekeeper"
NAME = "witness.example/one"
LOG_KEY = SigningKey(bytes(32))
TREE = HashTree(hash_leaves([b"entry %d" % index for index in range(40)]))
FORK = HashTree(hash_leaves([b"fork %d" % index for index in range(40)]))


def request(old: int, size: int, tree: HashTree = TREE) -> bytes:
    proof = tree.prove_consistency(old, size) if 0 < old < size else []
    return format_request(AddCheckpoint(old, tuple(proof), note(size, tree)))


def note(size: int, tree: HashTree = TREE) -> bytes:
    return sign_checkpoint(Checkpoint(ORIGIN, size, tree.root(size)), ORIGIN, LOG_KEY)


class Home:
    """A witness's directory, and servers over it, one after the other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "witness.toml"
        create_key(directory / "keys/cosign.key")
        create_mldsa_key(directory / "keys/cosign-mldsa.key")
        log_key = format_vkey(NoteKey(ORIGIN, ED25519, LOG_KEY.public))
        self.config.write_text(
            f'name = "{NAME}"\nstate = "state"\nlisten = "127.0.0.1:0"\nkey = "keys/cosign.key"\n'
            f'mldsa_key = "keys/cosign-mldsa.key"\n[[logs]]\norigin = "{ORIGIN}"\nkeys = ["{log_key}"]\n'
        )
        self.now_s = 1_800_000_000

    @property
    def settings(self) -> WitnessSettings:
        return load_settings(self.config)

    @contextlib.contextmanager
    def desk(self) -> Iterator[WitnessDesk]:
        settings = self.settings
        marker = KeyMarker(settings.key_path)
        try:
            with contextlib.closing(WitnessStore(settings.state / "witness.db")) as store:
                yield WitnessDesk(settings.name, settings.signers, settings.logs, store, marker, lambda: self.now_s)
        finally:
            marker.close()

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Caller]:
        with self.desk() as desk:
            stops: list[Refused] = []
            bound = web.bind("127.0.0.1", 0)
            application = WitnessService(desk, stops.append)
            server = web.WebServer(application, bound)
            running = asyncio.create_task(server.run())
            try:
                yield Caller(bound.getsockname()[1], self, application, stops)
            finally:
                server.stop()
                await running


class Caller:
    """Whoever asks the witness, with exactly the bytes it is told to send."""

    def __init__(self, port: int, home: Home, service: WitnessService, stops: list[Refused]) -> None:
        self.port, self.home, self.service, self.stops = port, home, service, stops

    async def raw(self, *parts: bytes, timeout_s: float = 20) -> bytes:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            for part in parts:
                writer.write(part)
            try:
                return await reader.read()
            except ConnectionResetError:  # cut off while it was still sending
                return b""
            finally:
                writer.close()

    async def pour(self, head: bytes, chunk: bytes) -> int:
        """Send one chunk after the other until cut off; return how many bytes were taken, 64 MiB at most."""
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(head)
        taken = 0
        with contextlib.suppress(ConnectionError):
            while taken < 2**26:
                writer.write(chunk)
                await writer.drain()
                taken += len(chunk)
        writer.close()
        return taken

    async def call(self, method: str, path: str, body: bytes = b"") -> tuple[int, str, bytes]:
        head = f"{method} {path} HTTP/1.1\r\nHost: w\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        answer = await self.raw(head.encode(), body)
        fields, _, content = answer.partition(b"\r\n\r\n")
        lines = fields.decode().split("\r\n")
        named = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
        return int(lines[0].split()[1]), named["content-type"], content

    async def add(self, old: int, size: int, tree: HashTree = TREE) -> tuple[int, str, bytes]:
        return await self.call("POST", "/add-checkpoint", request(old, size, tree))

    def check(self, lines: bytes, size: int, tree: HashTree = TREE) -> int:
        """Both cosignatures verify over that tree; return their time."""
        signed, signers = open_note(note(size, tree) + lines, self.home.settings.vkeys)
        assert signers == self.home.settings.vkeys
        return cosignature_time(signed.signatures[1])


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "witness")


async def test_a_growing_log_is_cosigned_with_both_keys(home: Home) -> None:
    """SPEC witness-5, SPEC witness-10: from the first tree on, and the same tree again with a new time."""
    async with home.served() as caller:
        for old, size in ((0, 3), (3, 4), (4, 40)):
            status, content_type, body = await caller.add(old, size)
            assert (status, content_type) == (200, "text/plain; charset=utf-8")
            assert caller.check(body, size) == home.now_s
        home.now_s += 60
        assert caller.check((await caller.add(40, 40))[2], 40) == home.now_s
        home.now_s -= 3_600
        assert caller.check((await caller.add(40, 40))[2], 40) == home.now_s + 3_600


async def test_each_refusal_has_the_status_of_c2sp(home: Home) -> None:
    """SPEC witness-1 to witness-7, with the size where a log can go on from it."""
    async with home.served() as caller:
        await caller.add(0, 20)
        assert await caller.add(0, 30) == (409, "text/x.tlog.size", b"20\n")
        assert await caller.add(20, 20, FORK) == (409, "text/x.tlog.size", b"20\n")
        assert (await caller.add(20, 30, FORK))[0] == 422
        assert (await caller.add(21, 20))[0] == 400
        assert (await caller.call("POST", "/add-checkpoint", b"old 20\n\nhello"))[0] == 400
        assert (await caller.call("POST", "/add-checkpoint"))[0] == 400
        other = format_request(
            AddCheckpoint(0, (), sign_checkpoint(Checkpoint("example.org/o", 1, bytes(32)), "example.org/o", LOG_KEY))
        )
        assert (await caller.call("POST", "/add-checkpoint", other))[0] == 404
        forged = sign_checkpoint(Checkpoint(ORIGIN, 30, TREE.root(30)), ORIGIN, SigningKey(b"\1" * 32))
        body = format_request(AddCheckpoint(20, tuple(TREE.prove_consistency(20, 30)), forged))
        assert (await caller.call("POST", "/add-checkpoint", body))[0] == 403
        assert (await caller.add(20, 30))[0] == 200
        for method, path in (("GET", "/add-checkpoint"), ("PUT", "/logs"), ("DELETE", "/")):
            assert (await caller.call(method, path))[0] == 405
        for path in ("/", "/nothing", "/add-checkpoint/", "/logs/", f"/{'0' * 64}/checkpoint", "/../logs"):
            assert (await caller.call("GET", path))[0] == 404, path
        assert caller.stops == []


async def test_monitors_see_what_was_cosigned_last(home: Home) -> None:
    async with home.served() as caller:
        path = f"/{hashlib.sha256(ORIGIN.encode()).hexdigest()}/checkpoint"
        assert (await caller.call("GET", path))[0] == 404
        assert json.loads((await caller.call("GET", "/logs"))[2]) == {ORIGIN: 0}
        await caller.add(0, 7)
        assert json.loads((await caller.call("GET", "/logs"))[2]) == {ORIGIN: 7}
        seen = (await caller.call("GET", path))[2]
        log_key = NoteKey(ORIGIN, ED25519, LOG_KEY.public)
        assert open_note(seen, [log_key, *home.settings.vkeys])[1] == (log_key, *home.settings.vkeys)
        status, _, body = await caller.call("HEAD", path)
        assert (status, body) == (200, b"")


async def test_what_was_cosigned_is_known_after_a_restart(home: Home) -> None:
    """SPEC witness-8."""
    async with home.served() as caller:
        await caller.add(0, 20)
    async with home.served() as caller:
        assert await caller.add(0, 20, FORK) == (409, "text/x.tlog.size", b"20\n")
        assert (await caller.add(20, 21))[0] == 200


async def test_of_racing_requests_only_a_growing_tree_is_signed(home: Home) -> None:
    """SPEC witness-8: checking the old size and remembering the new one are one step."""
    async with home.served() as caller:
        await caller.add(0, 10)
        wanted = [(10, size, tree) for size in range(11, 41) for tree in (TREE, FORK)]
        answers = await asyncio.gather(*(caller.add(*want) for want in wanted))
        signed = [want for want, answer in zip(wanted, answers, strict=True) if answer[0] == 200]
        assert len(signed) == 1
        assert {answer[0] for answer in answers} <= {200, 409, 422}
        [(_, size, tree)] = signed
        assert tree is TREE
        assert json.loads((await caller.call("GET", "/logs"))[2]) == {ORIGIN: size}


def test_nobody_decides_while_another_decision_is_written(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """SPEC witness-8: the second of two requests is judged by what the first has left, however slow the disk is."""
    with home.desk() as desk:
        desk.add_checkpoint(request(0, 10))
        keep, decided = WitnessStore.keep, threading.Event()

        def slow_keep(*words: Any) -> None:
            decided.wait(0.5)  # in vain, if the second request cannot come to a decision meanwhile
            keep(*words)

        def decide_and_tell(*words: Any) -> Any:
            decision = decide(*words)
            if len(decisions) == 1:
                decided.set()
            decisions.append(decision)
            return decision

        decisions: list[Any] = []
        monkeypatch.setattr(WitnessStore, "keep", slow_keep)
        monkeypatch.setattr(desk_module, "decide", decide_and_tell)
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(desk.add_checkpoint, [request(10, 20), request(10, 30)]))
        assert sorted(isinstance(answer, Rejection) and answer.size_only for answer in answers) == [False, True]


def test_a_lost_or_rolled_back_store_does_not_sign(home: Home) -> None:
    """SPEC witness-9: size 0 is not assumed for what was lost, nor an old backup believed."""
    database = home.settings.state / "witness.db"
    with home.desk() as desk:
        desk.add_checkpoint(request(0, 5))
    backup = database.read_bytes()
    with home.desk() as desk:
        desk.add_checkpoint(request(5, 9))
    good = database.read_bytes()
    for content in (backup, None):
        database.unlink()
        if content is not None:
            database.write_bytes(content)
        with pytest.raises(Refused) as caught, home.desk():
            pass
        assert caught.value.code is Code.UNSAFE_STATE
    database.write_bytes(good)
    with home.desk() as desk:
        assert desk.sizes() == {ORIGIN: 9}


def test_a_file_of_another_kind_or_a_damaged_one_is_not_built_on(home: Home) -> None:
    """SPEC witness-9: another program's file, one of a version to come, one without identity, and noise."""
    database = home.settings.state / "witness.db"
    for spoil in ("CREATE TABLE other (x)", "PRAGMA user_version=9", "DELETE FROM identity"):
        if spoil.startswith("CREATE"):
            database.parent.mkdir(parents=True, exist_ok=True)
        else:
            WitnessStore(database).close()
        with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
            other.execute(spoil)
        with pytest.raises(Refused) as caught:
            WitnessStore(database)
        assert caught.value.code is Code.UNSAFE_STATE, spoil
        for part in database.parent.glob("witness.db*"):
            part.unlink()
    database.write_bytes(b"noise" * 1_000)
    with pytest.raises(Refused, match="cannot be opened as a witness"):
        WitnessStore(database)


def test_two_processes_cannot_share_the_keys(home: Home) -> None:
    """SPEC witness-9."""
    with home.desk(), pytest.raises(Refused, match="another process"), home.desk():
        pass


async def test_after_a_failed_write_nothing_is_signed(home: Home) -> None:
    """SPEC witness-11: another hand changed the row; the witness says so, stops, and signs nothing more."""
    async with home.served() as caller:
        await caller.add(0, 5)
        with contextlib.closing(sqlite3.connect(home.settings.state / "witness.db")) as other:
            other.execute("UPDATE trees SET size = 6")
            other.commit()
        assert (await caller.add(5, 9))[0] == 500
        assert [refused.code for refused in caller.stops] == [Code.UNSAFE_STATE]
        assert (await caller.add(5, 9))[0] == 500


async def test_bodies_and_time_are_bounded(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """SPEC witness-12: too long, too slow, too many; each is refused, and the next honest request is answered."""
    monkeypatch.setattr(service, "BODY_S", 0.5)
    async with home.served() as caller:
        head = b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nConnection: close\r\n"
        taken = await caller.pour(head + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        assert taken < 16 * MAX_REQUEST_BYTES, "it is cut off, and what it sent is not kept"
        slow = await caller.raw(head + b"Content-Length: 100\r\n\r\nold 0\n")
        assert slow.startswith(b"HTTP/1.1 408 ")
        assert (await caller.add(0, 4))[0] == 200


async def test_more_requests_than_may_wait_are_sent_away(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """SPEC witness-12: stalled requests hold their few places for a bounded time, and no more."""
    monkeypatch.setattr(service, "BODY_S", 1.0)
    monkeypatch.setattr(service, "MAX_AT_WORK", 3)
    async with home.served() as caller:
        head = b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nConnection: close\r\nContent-Length: 100\r\n\r\n"
        stalled = [asyncio.create_task(caller.raw(head)) for _ in range(3)]
        async with asyncio.timeout(10):
            while caller.service.at_work < 3:  # noqa: ASYNC110  nothing else tells
                await asyncio.sleep(0.01)
        assert (await caller.add(0, 4))[0] == 503
        assert [(await each)[:12] for each in stalled] == [b"HTTP/1.1 408"] * 3
        assert (await caller.add(0, 4))[0] == 200


def test_signature_lines_are_what_a_log_appends(home: Home) -> None:
    """The answer of C2SP: nothing but signature lines, one for each key."""
    with home.desk() as desk:
        answer = desk.add_checkpoint(request(0, 5))
    assert isinstance(answer, bytes)
    assert [signature.name for signature in parse_signatures(answer)] == [NAME, NAME]
