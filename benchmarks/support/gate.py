"""A lab daemon's gate for measuring a meter: a gRPC server with the daemon's own options that keeps what it is told.

It is the meter that is measured; the daemon is another process, and its journal and signing are not the meter's cost.
"""

from __future__ import annotations

import signal
import time
from concurrent import futures
from pathlib import Path

import grpc

from pacekeeper.node.training_gate import GATE_OPTIONS
from pacekeeper.v1 import gate_pb2, gate_pb2_grpc

PERIOD_MS = 60_000
_WAIT_S = 5.0


class Gate(gate_pb2_grpc.TrainingGateServicer):
    """Takes every job and lets it proceed."""

    def __init__(self) -> None:
        self._usage: dict[tuple[str, int], gate_pb2.PeriodUsage] = {}

    def OpenJob(  # noqa: N802
        self, request: gate_pb2.OpenJobRequest, context: grpc.ServicerContext
    ) -> gate_pb2.OpenJobResponse:
        calendar = gate_pb2.Calendar(epoch_ms=0, period_ms=PERIOD_MS)
        return gate_pb2.OpenJobResponse(decision=gate_pb2.DECISION_PROCEED, calendar=calendar)

    def ReportUsage(  # noqa: N802
        self, request: gate_pb2.ReportUsageRequest, context: grpc.ServicerContext
    ) -> gate_pb2.ReportUsageResponse:
        self._usage.update(((request.job, item.period), item) for item in request.usage)
        return gate_pb2.ReportUsageResponse(decision=gate_pb2.DECISION_PROCEED)

    def RecordCheckpoint(  # noqa: N802
        self, request: gate_pb2.RecordCheckpointRequest, context: grpc.ServicerContext
    ) -> gate_pb2.RecordCheckpointResponse:
        return gate_pb2.RecordCheckpointResponse()

    def AwaitChange(  # noqa: N802
        self, request: gate_pb2.AwaitChangeRequest, context: grpc.ServicerContext
    ) -> gate_pb2.AwaitChangeResponse:
        if request.after:
            time.sleep(_WAIT_S)  # nothing changes here, and a real daemon answers as seldom
        return gate_pb2.AwaitChangeResponse(revision=1)


def serve_gate(directory: Path) -> None:
    """Serve on gate.sock in a directory, which then has a file `ready`, until SIGTERM."""
    server = grpc.server(futures.ThreadPoolExecutor(4), options=GATE_OPTIONS)
    gate_pb2_grpc.add_TrainingGateServicer_to_server(Gate(), server)
    server.add_insecure_port(f"unix:{directory / 'gate.sock'}")
    server.start()
    (directory / "ready").write_text(str(time.time_ns()))
    signal.sigwait({signal.SIGTERM})
    server.stop(None).wait()
