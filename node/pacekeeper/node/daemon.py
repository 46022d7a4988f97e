"""The lab daemon: takes what meters report, accounts for every period, signs, and delivers until a quorum witnesses.

    run(config_path)                 serve until SIGTERM or SIGINT
    declare(config_path, run, ...)   ask the daemon to declare a run
    read_status(config_path)         what the daemon last said of itself

ConfigError means that a file given to it is wrong (exit status 2), Refused(unsafe-state) that its state is not fit to
sign from (exit status 5); both name the file.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pacekeeper.client  # noqa: F401  sets what must stand in the environment before gRPC is imported

# isort: split
import grpc
import structlog

from pacekeeper.client.cache import open_cache
from pacekeeper.client.errors import ConfigError
from pacekeeper.client.keyfiles import read_private
from pacekeeper.client.submit import LogClient
from pacekeeper.client.tls import LOG_URI, channel_credentials, check_certificate, lab_uri
from pacekeeper.node.agenda import first_period
from pacekeeper.node.book import Book, open_book
from pacekeeper.node.catchup import CatchUp
from pacekeeper.node.changes import Changes
from pacekeeper.node.clock import Clock, SystemClock
from pacekeeper.node.config import LabSettings, load_settings
from pacekeeper.node.desk import Desk
from pacekeeper.node.keeper import Keeper
from pacekeeper.node.meters.spool import write_calendar
from pacekeeper.node.meters.usage import PeriodCalendar
from pacekeeper.node.outbox import Outbox
from pacekeeper.node.permits import Permits
from pacekeeper.node.reader import Reader
from pacekeeper.node.requests import answer_requests, leave_request, read_answer
from pacekeeper.node.runs import RunPlan
from pacekeeper.node.signer import open_lab_keys
from pacekeeper.node.status import LabStatus, describe_job, describe_uncounted, read_status, write_status
from pacekeeper.node.terms import FOUNDER, Terms
from pacekeeper.node.training_gate import TrainingGate, start_gate
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay.key_life import RULES_WITH_SUCCESSORS
from pacekeeper.protocol.text import printable
from pacekeeper.v1 import statements_pb2 as pb

__all__ = ["LabNode", "declare", "read_status", "run"]

Ready = Callable[[dict[str, object]], None]

_TICK_MS: Final = 100
_SCAN_MS: Final = 2_000
_STATUS_MS: Final = 1_000
_MAX_SHOWN: Final = 20  # problems of one kind in the status
_GRACE_S: Final = 1.0  # for calls under way when the daemon stops

_log = structlog.get_logger()


def run(config_path: Path, *, ready: Ready | None = None) -> None:
    """Run the daemon until SIGTERM or SIGINT. Raises ConfigError or Refused(unsafe-state).

    ready is called once it serves, with what the ready file holds.
    """
    settings = load_settings(config_path)
    asyncio.run(serve(settings, SystemClock(), ready=ready))


def declare(
    config_path: Path,
    run_id: str,
    *,
    title: str = "",
    initial_state: int = pb.INITIAL_STATE_UNSTATED,
    initial_digest: bytes = b"",
    wait_s: float = 5.0,
) -> bool:
    """Have the daemon declare a run. True: it is signed and queued; False: the request waits for the daemon to start.

    Raises ConfigError, or Refused with the daemon's reason.
    """
    settings = load_settings(config_path)
    answer_path = leave_request(settings.state, RunPlan(run_id, title, initial_state, initial_digest))
    give_up = time.monotonic() + wait_s
    while (answer := read_answer(answer_path)) is None:
        if time.monotonic() >= give_up:
            return False
        time.sleep(0.05)
    if answer.code:
        raise Refused(Code(answer.code), answer.message)
    return True


async def serve(settings: LabSettings, clock: Clock, *, ready: Ready | None = None) -> None:
    """Open everything, serve until a signal, and close in order."""
    credentials = _credentials(settings)
    book = _open(settings, clock)
    try:
        log = LogClient(settings.agreement.log.address, credentials, settings.agreement)
        async with log:
            await LabNode(settings, book, log, clock).run(ready)
    finally:
        book.close()


def _credentials(settings: LabSettings) -> grpc.ChannelCredentials:
    try:
        certificate = settings.tls_certificate.read_bytes()
        check_certificate(certificate, lab_uri(settings.lab.id), settings.lab.tls_spki)
    except OSError as error:
        raise ConfigError(f"{settings.tls_certificate} cannot be read: {error.strerror}") from None
    except Refused as refused:
        raise ConfigError(f"{settings.tls_certificate}: {refused.message}") from None
    key = read_private(settings.tls_key)
    return channel_credentials(settings.bundle.certificates[LOG_URI], key, certificate)


def _open(settings: LabSettings, clock: Clock) -> Book:
    successors = settings.agreement.rules_version >= RULES_WITH_SUCCESSORS
    keys = open_lab_keys(settings.key, settings.next_key, settings.lab.key, successors=successors)
    calendar = settings.agreement.calendar
    try:
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A job that starts while the daemon is down splits its figures by this.
        write_calendar(settings.spool, PeriodCalendar(calendar.epoch_ms, calendar.period_ms))
    except OSError as error:
        raise Refused(Code.UNSAFE_STATE, f"{error.filename}: {error.strerror}") from None
    path, fingerprint = settings.state / "journal", settings.agreement.fingerprint
    return open_book(path, fingerprint, settings.lab.id, keys, clock)


class LabNode:
    """Everything of a running lab daemon, tied together."""

    def __init__(self, settings: LabSettings, book: Book, log: LogClient, clock: Clock) -> None:
        self._settings = settings
        self._book = book
        self._clock = clock
        copy = open_cache(settings.log_copy, settings.agreement.fingerprint, _warn)
        self._reader = Reader(book, log, settings.lab, clock, copy)
        self._terms = Terms(settings, self._reader)
        self._desk = Desk(book, settings, self._terms, clock)
        self._outbox = Outbox(book, log, clock)
        self._permits = Permits(book, self._desk, self._reader, settings, clock)
        self._changes = Changes(self._reader, settings.lab.id, clock)
        self._keeper = Keeper(book, self._desk, self._reader, settings, clock)
        self._catchup = CatchUp(book, self._desk, settings, clock)
        self._stopping = asyncio.Event()
        self._problem = ""

    async def run(self, ready: Ready | None) -> None:
        """Serve until stop() or a signal. Raises Refused(unsafe-state) when the lab must not sign any more."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        self._keeper.start()
        self._catchup.scan()
        agreement = self._settings.agreement
        service = TrainingGate(self._desk, self._book, self._permits, self._changes, agreement)
        gate = await start_gate(self._settings.socket, service)
        facts: dict[str, object] = {"pid": os.getpid(), "socket": str(self._settings.socket)}
        ready_path = self._settings.state / "ready"
        try:
            self._try(self._write_status)
            self._try(lambda: _announce(ready_path, facts))
            _log.info("lab daemon ready", lab=self._settings.lab.id, **facts)
            if ready is not None:
                ready(facts)
            await self._work()
        finally:
            ready_path.unlink(missing_ok=True)
            self._changes.close()
            await gate.stop(_GRACE_S)
            self._settings.socket.unlink(missing_ok=True)
        self._try(self._keeper.stop)
        self._try(self._write_status)
        _log.info("lab daemon stopped", lab=self._settings.lab.id)

    def stop(self) -> None:
        """Make run() return."""
        self._stopping.set()

    async def _work(self) -> None:
        """Run all loops until one fails or stop() is called; their only failure is an unsafe state."""
        loops = [
            self._reader.run(),
            self._changes.run(),
            self._outbox.run(),
            self._keep(),
            self._scan(),
            self._report(),
        ]
        tasks = [asyncio.create_task(loop) for loop in loops]
        tasks.append(asyncio.create_task(self._stopping.wait()))  # type: ignore[arg-type]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    async def _keep(self) -> None:
        while True:
            self._keeper.tick()
            await self._clock.sleep(_TICK_MS)

    async def _scan(self) -> None:
        while True:
            self._try(self._catchup.scan)
            self._try(lambda: answer_requests(self._settings.state, self._desk))
            await self._clock.sleep(_SCAN_MS)

    async def _report(self) -> None:
        while True:
            self._try(self._write_status)
            await self._clock.sleep(_STATUS_MS)

    def _try(self, action: Callable[[], None]) -> None:
        """Do something that the disk may refuse for now."""
        try:
            action()
        except OSError as error:
            self._problem = f"{error.filename}: {error.strerror}"
        except Refused as refused:
            if refused.code is Code.UNSAFE_STATE:
                raise
            self._problem = refused.message
        else:
            self._problem = ""

    def _write_status(self) -> None:
        write_status(self._settings.state, self.status())

    def status(self) -> LabStatus:
        """Return how things stand."""
        ledger = self._book.ledger
        period = ledger.next_period
        if period is None and ledger.seen is not None:
            period = first_period(self._terms.agreement, ledger.seen.founded_ms, self._terms.membership() or FOUNDER)
        last = ledger.last_delivered
        return LabStatus(
            lab=self._settings.lab.id,
            agreement=self._settings.agreement.fingerprint.hex(),
            pid=os.getpid(),
            at_ms=self._clock.now_ms(),
            next_period=period,
            next_due_ms=None if period is None else self._terms.agreement.due_ms(period),
            sequence=ledger.sequence,
            outbox=len(ledger.unsent),
            log_size=max(self._reader.size, ledger.tree_size),
            log_ms=self._reader.log_ms,
            last_index=None if last is None else last.index,
            last_receipt_ms=None if last is None else last.at_ms,
            last_period_attested=max(ledger.account_ids, default=None),
            gaps_owed=sorted(ledger.owed),
            corrections_owed=sorted(ledger.touched),
            jobs=[describe_job(job, self._permits.told(job.id)) for job in self._desk.running()],
            runs=sorted(run.name for run in ledger.runs.values() if run.declared),
            problems=[printable(problem) for problem in self._problems()],
        )

    def _problems(self) -> list[str]:
        ledger = self._book.ledger
        said = [
            self._outbox.stopped,
            self._outbox.problem,
            self._reader.problem,
            self._reader.succession.problem,
            self._keeper.problem,
            self._keeper.clock_problem,
            self._terms.problem(),
            self._problem,
        ]
        refused = [
            f"the log refused {ledger.statements[item.id].about} ({item.code}): {item.message}"
            for item in ledger.refusals[-_MAX_SHOWN:]
        ]
        incomplete = describe_uncounted(ledger)[-_MAX_SHOWN:]
        return (
            [text for text in said if text] + refused + incomplete + list(self._catchup.problems.values())[:_MAX_SHOWN]
        )


def _warn(sentence: str) -> None:
    _log.warning(printable(sentence))


def _announce(path: Path, facts: dict[str, object]) -> None:
    """Write the ready file, whole or not at all, for whoever started this process."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(facts))
    beside.replace(path)


def main() -> None:
    """Run the daemon by itself: python -m pacekeeper.node.daemon lab.toml."""
    try:
        run(Path(sys.argv[1]))
    except ConfigError as error:
        sys.stderr.write(f"{printable(str(error))}\n")
        sys.exit(2)
    except Refused as refused:
        sys.stderr.write(f"{printable(refused.message)}\n")
        sys.exit(5)


if __name__ == "__main__":
    main()
