"""The log's process: one event loop with gRPC for the participants, HTTP for everyone, the writer and the publisher.

    initialise(config)   sequence entry 0, the agreement, into an empty store
    serve(config)        recover, serve until SIGTERM or SIGINT

ConfigError means that a file given to it is wrong (exit 2), Refused(unsafe-state) that the state is not fit to go on
from (exit 5); both name the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import grpc
import structlog

from pacekeeper.client.collector import settle
from pacekeeper.client.errors import ConfigError
from pacekeeper.client.tls import SERVER_OPTIONS, PeerCheck, changing_server_credentials
from pacekeeper.client.web import WebServer, bind
from pacekeeper.log.certificates import Certificates, owing_labs
from pacekeeper.log.clock import SystemClock
from pacekeeper.log.cosign import CosignStreams
from pacekeeper.log.files import CHECKPOINT, PublicFiles, read_if_there
from pacekeeper.log.http import PublicLog
from pacekeeper.log.lock import StateLock
from pacekeeper.log.mark import HeadMark, MarkedStore
from pacekeeper.log.peers import Peers
from pacekeeper.log.published import PublishedTree
from pacekeeper.log.publisher import Publisher
from pacekeeper.log.recovery import mark_unsafe, recover, refuse_if_marked
from pacekeeper.log.room import Room
from pacekeeper.log.rpc import LogService
from pacekeeper.log.sequencer import Sequencer
from pacekeeper.log.settings import LogFiles, load_files
from pacekeeper.log.store.port import Batch, Head, Store
from pacekeeper.log.store.sqlite import SqliteStore
from pacekeeper.log.submissions import Submissions
from pacekeeper.log.voice import StatementKeys
from pacekeeper.log.witnesses import Witnesses
from pacekeeper.log.witnessing import Witnessing, oldest_unpublished_ms
from pacekeeper.log.writer import Writer
from pacekeeper.protocol.envelope import frame_entry, identity, pae, parse_envelope
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay import genesis
from pacekeeper.protocol.tlog.checkpoint import parse_checkpoint
from pacekeeper.protocol.tlog.merkle import Frontier, leaf_hash
from pacekeeper.protocol.tlog.note import open_note
from pacekeeper.v1 import log_pb2_grpc

MAX_CALLS: Final = 1_024  # under way at once, of all participants
GRACE_S: Final = 1.0  # for calls under way when the log stops
READY: Final = "ready"

_log = structlog.get_logger(__name__)


def initialise(config_path: Path) -> None:
    """Sequence the bundle's agreement as entry 0, at this moment. ConfigError if the log has entries already."""
    files = load_files(config_path)
    with StateLock(files.state), HeadMark(files.head_mark, files.bundle.agreement.origin) as mark:
        refuse_if_marked(files.state)
        store = SqliteStore(files.store)
        try:
            if store.head() is not None:
                raise ConfigError(f"{files.store} has entries already; a log is initialised once")
            mark.refuse_older(None)
            now_ms = SystemClock().now_ms()
            envelope = parse_envelope(files.bundle.entry0)
            entry = frame_entry(now_ms, files.bundle.entry0)
            StatementKeys(files.statement_keys).key_for(genesis(entry))
            tree = Frontier()
            tree.append(leaf_hash(entry))
            statement_id = identity(pae(envelope.payload_type, envelope.payload))
            head = Head(1, tree.root(), now_ms)
            store.commit(Batch(0, [entry], [statement_id], [], head), None)
            mark.bind(head)
        finally:
            store.close()


def serve(config_path: Path, *, ready: Callable[[dict[str, object]], None] | None = None) -> None:
    """Run the log until SIGTERM or SIGINT. ready is called once it serves, with what the ready file has."""
    files = load_files(config_path)
    with StateLock(files.state), HeadMark(files.head_mark, files.bundle.agreement.origin) as mark:
        refuse_if_marked(files.state)
        (files.state / READY).unlink(missing_ok=True)
        try:
            asyncio.run(_serve(files, mark, ready))
        except Refused as refused:
            if refused.code is Code.UNSAFE_STATE and (files.state / READY).exists():
                mark_unsafe(files.state, refused.message)
            raise
        finally:
            (files.state / READY).unlink(missing_ok=True)


async def _serve(files: LogFiles, mark: HeadMark, ready: Callable[[dict[str, object]], None] | None) -> None:
    store = MarkedStore(SqliteStore(files.store), mark)
    try:
        mark.refuse_older(store.head())
        log = _Log(files, store, mark)
        settle()
        await log.run(ready)
    finally:
        store.close()


class _Log:
    """Everything of a running log, tied together."""

    def __init__(self, files: LogFiles, store: Store, mark: HeadMark) -> None:
        agreement = files.bundle.agreement
        self._files = files
        clock = SystemClock()
        public = PublicFiles(files.state / "public")
        publisher = Publisher(store, public, agreement.origin, files.checkpoint_key)
        _refuse_to_unpublish(files, store)
        recovered = recover(store, publisher, agreement)
        mark.refuse_other(store)
        public.sweep()
        tree = recovered.published
        witnesses = Witnesses(recovered.agreement)
        if tree is not None:
            witnesses.restore(tree.note, recovered.state.last_time_ms, recovered.agreement, recovered.before)
        witnesses.advance(recovered.state.agreement)
        oldest_ms = oldest_unpublished_ms(store, tree.size if tree else 0)
        ask = mark.must_ask(store.head())
        room = Room(files.state)
        self._witnessing = Witnessing(
            store, publisher, witnesses, clock, tree, oldest_ms, unconfirmed=ask, room=room.for_publication
        )
        voice = StatementKeys(files.statement_keys)
        voice.key_for(recovered.state)  # a log that cannot speak does not start
        sequencer = Sequencer(recovered.state, voice, store.known, store.slot)
        self._writer = Writer(
            store,
            sequencer,
            recovered.frontier,
            clock,
            self._witnessing.conditions,
            self._witnessing.committed,
            room.for_entries,
        )
        self._witnessing.nudge = self._writer.nudge
        streams = CosignStreams(self._witnessing, store, clock)
        pins, founders = files.bundle.pins, files.bundle.certificates
        self._certificates = Certificates(files.bundle_path, [(uri, pins[uri], pem) for uri, pem in founders.items()])
        self._peers = peers = Peers(PeerCheck(pins))
        self._witnessing.membership_changed = self._follow_membership
        self._certificates.remember(recovered.labs)
        self._witnessing.owing = owing_labs(recovered.state)
        self._follow_membership()
        self._service = LogService(
            self._writer,
            self._witnessing,
            store,
            peers,
            streams,
            Submissions(self._writer, self._witnessing, lambda: voice.key_for(sequencer.state), agreement.fingerprint),
            agreement.origin,
        )
        self._public = PublicLog(self._published, agreement.origin, agreement.fingerprint)
        self._stop = asyncio.Event()

    def _published(self) -> PublishedTree | None:
        return self._witnessing.published

    def _follow_membership(self) -> None:
        """Let in whom the agreements that count at present name.

        SPEC transport-22: who may call MUST follow from the agreement in force, newcomers from their accession on.
        """
        witnessing = self._witnessing
        self._peers.repin(self._certificates.follow(witnessing.witnesses.agreements(), witnessing.owing))

    async def run(self, ready: Callable[[dict[str, object]], None] | None) -> None:
        """Serve until a signal, or until a part fails."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        grpc_server, grpc_port = self._open_grpc()
        web_socket = _bind(self._files.http_host, self._files.http_port)
        web = WebServer(self._public, web_socket)
        await grpc_server.start()
        jobs = (self._writer.run(), self._witnessing.run(), web.run(), self._certificates.run())
        tasks = [*map(_task, jobs), _task(self._stop.wait())]
        facts = {
            "pid": os.getpid(),
            "listen": f"{self._files.host}:{grpc_port}",
            "http_listen": f"{self._files.http_host}:{web_socket.getsockname()[1]}",
        }
        try:
            _announce(self._files.state / READY, facts, ready)
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                ended.result()
        finally:
            web.stop()
            await grpc_server.stop(GRACE_S)
            for task in (*tasks[:2], *tasks[3:]):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks, return_exceptions=True)
            _log.info("log stopped")

    def _open_grpc(self) -> tuple[grpc.aio.Server, int]:
        files = self._files
        server = grpc.aio.server(options=SERVER_OPTIONS, maximum_concurrent_rpcs=MAX_CALLS)
        log_pb2_grpc.add_TransparencyLogServicer_to_server(self._service, server)
        credentials = changing_server_credentials(
            files.tls_key_pem, files.tls_certificate_pem, self._certificates.trusted
        )
        try:
            return server, server.add_secure_port(f"{files.host}:{files.port}", credentials)
        except RuntimeError:
            raise ConfigError(f"cannot listen on {files.host}:{files.port}: the address is taken or unknown") from None


def _refuse_to_unpublish(files: LogFiles, store: Store) -> None:
    """SPEC log-29: a checkpoint file MUST NOT be replaced by a checkpoint of a smaller tree."""
    path = files.state / "public" / CHECKPOINT
    stored, note = store.published(), read_if_there(path)
    try:
        newest, size = _signed_size(files, note or b""), _signed_size(files, stored) if stored is not None else 0
    except Refused:
        return  # the file is missing or damaged, and is made again; or the store is, and does not start
    if newest > size:
        raise Refused(
            Code.UNSAFE_STATE, f"{path} covers {newest} entries, the store has published {size}: it is an older backup"
        )


def _signed_size(files: LogFiles, note: bytes) -> int:
    return parse_checkpoint(open_note(note, [files.bundle.agreement.log.key])[0].text).size


def _bind(host: str, port: int) -> socket.socket:
    try:
        return bind(host, port)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}") from None


def _task(work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
    return asyncio.create_task(work)


def _announce(path: Path, facts: dict[str, object], ready: Callable[[dict[str, object]], None] | None) -> None:
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_text(json.dumps(facts) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise Refused(Code.UNSAFE_STATE, f"{path} cannot be written: {error.strerror}") from None
    _log.info("log ready", **facts)
    if ready is not None:
        ready(facts)
