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

from pacekeeper.client.errors import ConfigError
from pacekeeper.client.tls import SERVER_OPTIONS, PeerCheck, server_credentials
from pacekeeper.client.web import WebServer, bind
from pacekeeper.log.clock import SystemClock
from pacekeeper.log.cosign import CosignStreams
from pacekeeper.log.files import PublicFiles
from pacekeeper.log.http import PublicLog
from pacekeeper.log.lock import StateLock
from pacekeeper.log.peers import Peers
from pacekeeper.log.published import PublishedTree
from pacekeeper.log.publisher import Publisher
from pacekeeper.log.recovery import Recovered, mark_unsafe, recover, refuse_if_marked
from pacekeeper.log.rpc import LogService
from pacekeeper.log.sequencer import Sequencer
from pacekeeper.log.settings import LogFiles, load_files
from pacekeeper.log.store.port import Batch, Head, Store
from pacekeeper.log.store.sqlite import SqliteStore
from pacekeeper.log.witnesses import Witnesses
from pacekeeper.log.witnessing import Witnessing, oldest_unpublished_ms
from pacekeeper.log.writer import Writer
from pacekeeper.protocol.envelope import frame_entry, identity, pae, parse_envelope
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay import genesis
from pacekeeper.protocol.tlog.merkle import Frontier, leaf_hash
from pacekeeper.protocol.tlog.policy import check_checkpoint
from pacekeeper.v1 import log_pb2_grpc

MAX_CALLS: Final = 1_024  # under way at once, of all participants
GRACE_S: Final = 1.0  # for calls under way when the log stops
READY: Final = "ready"

_log = structlog.get_logger(__name__)


def initialise(config_path: Path) -> None:
    """Sequence the bundle's agreement as entry 0, at this moment. ConfigError if the log has entries already."""
    files = load_files(config_path)
    with StateLock(files.state):
        refuse_if_marked(files.state)
        store = SqliteStore(files.store)
        try:
            if store.head() is not None:
                raise ConfigError(f"{files.store} has entries already; a log is initialised once")
            now_ms = SystemClock().now_ms()
            envelope = parse_envelope(files.bundle.entry0)
            entry = frame_entry(now_ms, files.bundle.entry0)
            genesis(entry)
            tree = Frontier()
            tree.append(leaf_hash(entry))
            statement_id = identity(pae(envelope.payload_type, envelope.payload))
            store.commit(Batch(0, [entry], [statement_id], [], Head(1, tree.root(), now_ms)), None)
        finally:
            store.close()


def serve(config_path: Path, *, ready: Callable[[dict[str, object]], None] | None = None) -> None:
    """Run the log until SIGTERM or SIGINT. ready is called once it serves, with what the ready file has."""
    files = load_files(config_path)
    with StateLock(files.state):
        refuse_if_marked(files.state)
        (files.state / READY).unlink(missing_ok=True)
        try:
            asyncio.run(_serve(files, ready))
        except Refused as refused:
            if refused.code is Code.UNSAFE_STATE and (files.state / READY).exists():
                mark_unsafe(files.state, refused.message)
            raise
        finally:
            (files.state / READY).unlink(missing_ok=True)


async def _serve(files: LogFiles, ready: Callable[[dict[str, object]], None] | None) -> None:
    store = SqliteStore(files.store)
    try:
        log = _Log(files, store)
        await log.run(ready)
    finally:
        store.close()


class _Log:
    """Everything of a running log, tied together."""

    def __init__(self, files: LogFiles, store: Store) -> None:
        agreement = files.bundle.agreement
        self._files = files
        clock = SystemClock()
        public = PublicFiles(files.state / "public")
        publisher = Publisher(store, public, agreement.origin, files.checkpoint_key)
        recovered = _recover(files, store, publisher)
        public.sweep()
        tree = recovered.published
        witnesses = Witnesses(agreement.policy(), agreement.quorum.liars, agreement.timing.tolerance_ms)
        if tree is not None:
            witnesses.restore(tree.note, recovered.state.last_time_ms)
        oldest_ms = oldest_unpublished_ms(store, tree.size if tree else 0)
        self._witnessing = Witnessing(store, publisher, witnesses, clock, tree, oldest_ms)
        sequencer = Sequencer(recovered.state, files.statement_key, store.known, store.slot)
        self._writer = Writer(
            store,
            sequencer,
            recovered.frontier,
            clock,
            self._witnessing.conditions,
            self._witnessing.committed,
            files.state,
        )
        self._witnessing.nudge = self._writer.nudge
        streams = CosignStreams(self._witnessing, store, clock)
        peers = Peers(PeerCheck(files.bundle.pins))
        self._service = LogService(
            self._writer,
            self._witnessing,
            store,
            peers,
            streams,
            files.statement_key,
            agreement.origin,
            agreement.fingerprint,
        )
        self._public = PublicLog(self._published, agreement.origin, agreement.fingerprint)
        self._stop = asyncio.Event()

    def _published(self) -> PublishedTree | None:
        return self._witnessing.published

    async def run(self, ready: Callable[[dict[str, object]], None] | None) -> None:
        """Serve until a signal, or until a part fails."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        grpc_server, grpc_port = self._open_grpc()
        web_socket = _bind(self._files.http_host, self._files.http_port)
        web = WebServer(self._public, web_socket)
        await grpc_server.start()
        tasks = [_task(self._writer.run()), _task(self._witnessing.run()), _task(web.run()), _task(self._stop.wait())]
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
            for task in tasks[:2]:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks[:3], return_exceptions=True)
            tasks[3].cancel()
            _log.info("log stopped")

    def _open_grpc(self) -> tuple[grpc.aio.Server, int]:
        files = self._files
        server = grpc.aio.server(options=SERVER_OPTIONS, maximum_concurrent_rpcs=MAX_CALLS)
        log_pb2_grpc.add_TransparencyLogServicer_to_server(self._service, server)
        credentials = server_credentials(
            files.tls_key_pem, files.tls_certificate_pem, files.bundle.client_certificates()
        )
        try:
            return server, server.add_secure_port(f"{files.host}:{files.port}", credentials)
        except RuntimeError:
            raise ConfigError(f"cannot listen on {files.host}:{files.port}: the address is taken or unknown") from None


def _recover(files: LogFiles, store: Store, publisher: Publisher) -> Recovered:
    note = store.published()
    size, root = 0, b""
    if note is not None:
        try:
            checkpoint = check_checkpoint(note, files.bundle.agreement.policy()).checkpoint
        except Refused as refused:
            raise Refused(Code.UNSAFE_STATE, f"the stored checkpoint is damaged: {refused.message}") from refused
        size, root = checkpoint.size, checkpoint.root
    recovered = recover(store, publisher, size, root)
    if recovered.state.agreement.fingerprint != files.bundle.agreement.fingerprint:
        raise Refused(Code.UNSAFE_STATE, f"{files.store} is the log of another agreement than the bundle's")
    return recovered


def _bind(host: str, port: int) -> socket.socket:
    try:
        return bind(host, port)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}") from None


def _task(work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
    return asyncio.create_task(work)


def _announce(path: Path, facts: dict[str, object], ready: Callable[[dict[str, object]], None] | None) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(facts) + "\n", encoding="utf-8")
    temporary.replace(path)
    _log.info("log ready", **facts)
    if ready is not None:
        ready(facts)
