"""The training gate: the lab daemon's service for training processes, on a Unix socket that only its owner can open.

Whoever may open the socket may report for the lab; the file's mode is the access rule. A refused call ends with
"code: sentence" (specs/node.md), and every call may be repeated.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import grpc
import grpc.aio

from pacekeeper.client.rpc import abort
from pacekeeper.node.book import Book
from pacekeeper.node.changes import MAX_WAITING, Changes
from pacekeeper.node.desk import MAX_REPORTED, Desk, JobPlan, Reported
from pacekeeper.node.gate import Decision, Hold, Throttle
from pacekeeper.node.permits import Permits
from pacekeeper.node.plans import Planned
from pacekeeper.node.runs import RunPlan
from pacekeeper.protocol.documents.agreement import Agreement
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.v1 import gate_pb2, gate_pb2_grpc

MAX_FLOP_BYTES: Final = 16  # room for figures that are refused by their value, none for a flood
MAX_CALLS: Final = 256 + MAX_WAITING  # at one time; a meter has one, and one that waits
_CALL_S: Final = 10.0  # a commit takes milliseconds
GATE_OPTIONS: Final = (
    ("grpc.http2.bdp_probe", 0),  # a socket of this machine has no bandwidth to find out, and each ping wakes a meter
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.max_metadata_size", 8 * 1024),
    ("grpc.so_reuseport", 0),
)

_Context = grpc.aio.ServicerContext[Any, Any]


class TrainingGate(gate_pb2_grpc.TrainingGateServicer):
    """Answers training processes: the desk takes what they say, the permits say what they may do."""

    def __init__(self, desk: Desk, book: Book, permits: Permits, changes: Changes, agreement: Agreement) -> None:
        self._desk = desk
        self._book = book
        self._permits = permits
        self._changes = changes
        self._calendar = gate_pb2.Calendar(epoch_ms=agreement.calendar.epoch_ms, period_ms=agreement.calendar.period_ms)

    async def OpenJob(  # noqa: N802
        self, request: gate_pb2.OpenJobRequest, context: _Context
    ) -> gate_pb2.OpenJobResponse:
        try:
            plan = RunPlan(request.run, request.title, request.initial_state, request.initial_digest)
            self._desk.open_job(JobPlan(request.job, plan, request.chips, request.method, request.margin_ppm))
        except Refused as refused:
            await abort(context, refused)
        order = self._order(request.job)
        return gate_pb2.OpenJobResponse(
            decision=order.decision,
            reason=order.reason,
            calendar=self._calendar,
            flop_per_s=order.flop_per_s,
            save_within_ms=order.save_within_ms,
            stand_by=order.stand_by,
            planned=order.planned,
        )

    async def ReportUsage(  # noqa: N802
        self, request: gate_pb2.ReportUsageRequest, context: _Context
    ) -> gate_pb2.ReportUsageResponse:
        try:
            # SPEC node-21: a report MUST be answered only when all of it is in the journal.
            async with asyncio.timeout(_CALL_S):
                usage = read_usage(request.usage)
                records = self._desk.report(request.job, usage, request.uncounted, closing=request.closing)
                await self._book.commit(records)
        except TimeoutError:
            await abort(context, Refused(Code.OVERLOADED, "the journal does not keep up; report again"))
        except Refused as refused:
            await abort(context, refused)
        return self._order(request.job)

    async def RecordCheckpoint(  # noqa: N802
        self, request: gate_pb2.RecordCheckpointRequest, context: _Context
    ) -> gate_pb2.RecordCheckpointResponse:
        try:
            self._desk.take_checkpoint(request.job, request.digest, read_usage(request.usage), request.uncounted)
        except Refused as refused:
            await abort(context, refused)
        return gate_pb2.RecordCheckpointResponse()

    async def AwaitChange(  # noqa: N802
        self, request: gate_pb2.AwaitChangeRequest, context: _Context
    ) -> gate_pb2.AwaitChangeResponse:
        try:
            job = self._book.ledger.jobs.get(request.job)
            if job is None or job.closed:
                raise Refused(Code.NOT_FOUND, "no such job; open it again")
            revision = await self._changes.wait(request.job, request.after)
        except Refused as refused:
            await abort(context, refused)
        return gate_pb2.AwaitChangeResponse(revision=revision)

    def _order(self, job: str) -> gate_pb2.ReportUsageResponse:
        decision = self._permits.decide(job)
        return write_order(decision, self._permits.now_ms(), self._permits.plan(job, decision))


def write_order(decision: Decision, now_ms: int, planned: Sequence[Planned] = ()) -> gate_pb2.ReportUsageResponse:
    """Write a decision, and what is planned after it, as a meter reads it."""
    order = _write_decision(decision, now_ms)
    for change in planned:
        then = _write_decision(change.decision, change.at_ms)
        order.planned.add(
            in_ms=max(0, change.at_ms - now_ms),
            decision=then.decision,
            reason=then.reason,
            flop_per_s=then.flop_per_s,
            save_within_ms=then.save_within_ms,
        )
    return order


def _write_decision(decision: Decision, now_ms: int) -> gate_pb2.ReportUsageResponse:
    match decision:
        case Hold():
            return gate_pb2.ReportUsageResponse(
                decision=gate_pb2.DECISION_HOLD,
                reason=decision.reason,
                save_within_ms=max(0, decision.save_by_ms - now_ms),
                stand_by=decision.stand_by,
            )
        case Throttle():
            rate = decision.flop_per_s
            return gate_pb2.ReportUsageResponse(
                decision=gate_pb2.DECISION_THROTTLE,
                reason=decision.reason,
                flop_per_s=rate.to_bytes((rate.bit_length() + 7) // 8, "big"),
            )
        case _:
            return gate_pb2.ReportUsageResponse(decision=gate_pb2.DECISION_PROCEED)


def read_usage(usage: Sequence[gate_pb2.PeriodUsage]) -> list[Reported]:
    """Return reported figures, checked. Refused: too-large, not-canonical, bad-field."""
    if len(usage) > MAX_REPORTED:
        raise Refused(Code.TOO_LARGE, f"over {MAX_REPORTED} figures in one report")
    return [Reported(item.period, _read_flop(item.flop), item.steps, item.chip_ms) for item in usage]


def _read_flop(data: bytes) -> int:
    if len(data) > MAX_FLOP_BYTES:
        raise Refused(Code.BAD_FIELD, "more operations than one job can make in a period")
    if data[:1] == b"\x00":
        raise Refused(Code.NOT_CANONICAL, "operations are minimal big-endian bytes")
    return int.from_bytes(data, "big")


async def start_gate(path: Path, gate: TrainingGate) -> grpc.aio.Server:
    """Serve the gate on a Unix socket with mode 0600. Refused(unsafe-state) if another daemon serves it.

    SPEC node-22: the socket MUST be openable by its owner only from the moment that it exists, and MUST NOT be taken
    from a process that listens on it.
    """
    clear_stale_socket(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    server = grpc.aio.server(options=GATE_OPTIONS, maximum_concurrent_rpcs=MAX_CALLS)
    gate_pb2_grpc.add_TrainingGateServicer_to_server(gate, server)
    before = os.umask(0o177)
    try:
        server.add_insecure_port("unix:" + quote(str(path)))
    except RuntimeError as error:
        raise Refused(Code.UNSAFE_STATE, f"{path}: cannot listen there: {error}") from None
    finally:
        os.umask(before)
    await server.start()
    return server


def clear_stale_socket(path: Path) -> None:
    """Remove a socket that a dead daemon left. Refused(unsafe-state) if one listens, or if it is another file."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise Refused(Code.UNSAFE_STATE, f"{path} is there and is not a socket; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise Refused(Code.UNSAFE_STATE, f"{path}: cannot tell whether a daemon listens: {error}") from None
    raise Refused(Code.UNSAFE_STATE, f"{path}: another daemon listens there")
