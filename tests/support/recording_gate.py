"""A lab daemon for tests: a real gRPC server on a real Unix socket that keeps what meters tell it in memory.

It obeys the contract of gate.proto: calls are idempotent, a report never lowers a figure, an unknown job is NOT_FOUND.
Its books outlive a restart of its server, as a daemon's journal does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc

from pacekeeper.node.meters.settings import MeterSettings, OnDaemonDown
from pacekeeper.v1 import gate_pb2, gate_pb2_grpc


@dataclass
class JobBook:
    """What the daemon knows of one job."""

    opening: gate_pb2.OpenJobRequest
    usage: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    checkpoints: dict[bytes, list[tuple[int, int, int, int]]] = field(default_factory=dict)
    checkpoint_notes: dict[bytes, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    closed: bool = False

    @property
    def flop(self) -> int:
        return sum(flop for flop, _, _ in self.usage.values())

    @property
    def steps(self) -> int:
        return sum(steps for _, steps, _ in self.usage.values())

    @property
    def chip_ms(self) -> int:
        return sum(chip_ms for _, _, chip_ms in self.usage.values())


class RecordingGate(gate_pb2_grpc.TrainingGateServicer):
    """The daemon. start() and stop() may alternate."""

    def __init__(self, directory: Path, *, period_ms: int = 60_000) -> None:
        self.socket = directory / "gate.sock"
        self.spool = directory / "spool"
        self.spool.mkdir()
        self.jobs: dict[str, JobBook] = {}
        self.calls: list[str] = []
        self.hold: str | None = None
        self.save_within_ms = 0
        self.stand_by = False
        self.flop_per_s: int | None = None
        self.refuse: str | None = None
        self.refuse_with = grpc.StatusCode.FAILED_PRECONDITION
        self.planned: list[gate_pb2.PlannedChange] = []
        self.revision = 1
        self.refuse_waiting = False
        self.waited = 0
        self.delay_s = 0.0
        self.epoch_ms = 0
        self.period_ms = period_ms
        self._lock = threading.Lock()
        self._server: grpc.Server | None = None

    def settings(self, policy: OnDaemonDown = OnDaemonDown.CONTINUE, **other: float) -> MeterSettings:
        times = {"report_s": 0.05, "spool_s": 0.1, "call_s": 1.0, "close_s": 2.0} | other
        return MeterSettings(self.socket, self.spool, policy, **times)

    def start(self) -> None:
        self._server = grpc.server(futures.ThreadPoolExecutor(16))
        gate_pb2_grpc.add_TrainingGateServicer_to_server(self, self._server)
        self._server.add_insecure_port("unix:" + quote(str(self.socket)))
        self._server.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(None).wait()
            self._server = None

    @property
    def job(self) -> JobBook:
        """The only job."""
        (book,) = self.jobs.values()
        return book

    def OpenJob(self, request: gate_pb2.OpenJobRequest, context: grpc.ServicerContext) -> gate_pb2.OpenJobResponse:
        self._enter("open", context)
        with self._lock:
            self.jobs.setdefault(request.job, JobBook(request))
        calendar = gate_pb2.Calendar(epoch_ms=self.epoch_ms, period_ms=self.period_ms)
        return gate_pb2.OpenJobResponse(calendar=calendar, **self._decision())

    def ReportUsage(
        self, request: gate_pb2.ReportUsageRequest, context: grpc.ServicerContext
    ) -> gate_pb2.ReportUsageResponse:
        self._enter("report", context)
        book = self._known(request.job, context)
        with self._lock:
            book.notes = list(request.uncounted)
            for item in request.usage:
                assert item.flop[:1] != b"\0", "operations are minimal big-endian bytes"
                new = (int.from_bytes(item.flop, "big"), item.steps, item.chip_ms)
                old = book.usage.get(item.period, (0, 0, 0))
                book.usage[item.period] = (max(old[0], new[0]), max(old[1], new[1]), max(old[2], new[2]))
            book.closed = book.closed or request.closing
        return gate_pb2.ReportUsageResponse(**self._decision())

    def RecordCheckpoint(
        self, request: gate_pb2.RecordCheckpointRequest, context: grpc.ServicerContext
    ) -> gate_pb2.RecordCheckpointResponse:
        self._enter("checkpoint", context)
        book = self._known(request.job, context)
        with self._lock:
            book.checkpoint_notes[request.digest] = list(request.uncounted)
            book.checkpoints[request.digest] = [
                (item.period, int.from_bytes(item.flop, "big"), item.steps, item.chip_ms) for item in request.usage
            ]
        return gate_pb2.RecordCheckpointResponse()

    def AwaitChange(
        self, request: gate_pb2.AwaitChangeRequest, context: grpc.ServicerContext
    ) -> gate_pb2.AwaitChangeResponse:
        self.waited += 1
        if self.refuse_waiting:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        self._known(request.job, context)
        give_up = time.monotonic() + 1.0  # a thread of the server's each
        while self.revision == request.after and time.monotonic() < give_up and context.is_active():
            time.sleep(0.01)
        return gate_pb2.AwaitChangeResponse(revision=self.revision)

    def _enter(self, name: str, context: grpc.ServicerContext) -> None:
        time.sleep(self.delay_s)
        with self._lock:
            self.calls.append(name)
        if self.refuse is not None:
            context.abort(self.refuse_with, self.refuse)

    def _known(self, job: str, context: grpc.ServicerContext) -> JobBook:
        book = self.jobs.get(job)
        if book is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such job")
        assert book is not None
        return book

    def _decision(self) -> dict[str, Any]:
        return self._order() | {"planned": self.planned}

    def _order(self) -> dict[str, Any]:
        if self.hold is not None:
            held = {"reason": self.hold, "save_within_ms": self.save_within_ms, "stand_by": self.stand_by}
            return {"decision": gate_pb2.DECISION_HOLD, **held}
        if self.flop_per_s is not None:
            return {"decision": gate_pb2.DECISION_THROTTLE, "flop_per_s": self.flop_per_s.to_bytes(9, "big")}
        return {"decision": gate_pb2.DECISION_PROCEED}


def eventually(condition: Callable[[], bool], what: str, patience_s: float = 20.0) -> None:
    """Wait until a condition holds; AssertionError naming it if it never does."""
    give_up = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < give_up, f"never happened: {what}"
        time.sleep(0.01)
