"""The calls a meter makes to its lab daemon: three, idempotent, each with a deadline, over a Unix socket.

A call ends in one of three ways: the daemon answered; it is away (DaemonAway: try again later, the spool keeps what
was said); it refused (Refused: the sentence is its own).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, TypeVar, cast
from urllib.parse import quote

import grpc

from pacekeeper.node.meters.spool import Opening, SpooledCheckpoint
from pacekeeper.node.meters.usage import PeriodFigure
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.v1 import gate_pb2, gate_pb2_grpc, statements_pb2

_FINAL: Final = frozenset(  # the same call would be refused again; whatever else ends a call may pass
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
# What a daemon says about its own condition. The room of the log's clients has the same list; a meter does not import
# it, since that sets the environment of the whole training process.
_PASSING: Final = frozenset({Code.OVERLOADED, Code.NOT_WITNESSED, Code.HALTED, Code.CLOCK_DISAGREES})
_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),  # a daemon that is back is found within a second, not within two minutes
    ("grpc.enable_http_proxy", 0),
)
_Answer = TypeVar("_Answer")


class DaemonAway(Exception):
    """The daemon did not answer in time, nobody listens on its socket, or it says that its trouble may pass."""


class UnknownJob(Exception):
    """The daemon does not know the job: it is to be opened again."""


class GateClient:
    """A connection to the lab daemon. Made lazily: constructing it never fails for a daemon that is down."""

    def __init__(self, socket: Path, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._closed = False
        self._channel = grpc.insecure_channel("unix:" + quote(str(socket)), options=_OPTIONS)
        self._stub = gate_pb2_grpc.TrainingGateStub(self._channel)

    def open_job(self, job: Opening) -> gate_pb2.OpenJobResponse:
        """Announce the job. DaemonAway, or Refused with the daemon's reason."""
        request = gate_pb2.OpenJobRequest(
            job=job.job,
            run=job.run,
            title=job.title,
            initial_state=statements_pb2.InitialState.ValueType(job.initial_state),
            initial_digest=job.initial_digest,
            chips=job.chips,
            method=statements_pb2.Method.ValueType(job.method),
            margin_ppm=job.margin_ppm,
        )
        try:
            return self._call(lambda: self._stub.OpenJob(request, timeout=self._deadline_s))
        except UnknownJob as error:  # what is not found here is the run or the lab, not the job
            raise _refusal(str(error)) from None

    def report_usage(
        self, job: str, figures: Iterable[PeriodFigure], notes: Iterable[str] = (), *, closing: bool = False
    ) -> gate_pb2.ReportUsageResponse:
        """Report figures, cumulative per period, and what they lack. DaemonAway, UnknownJob, or Refused.

        SPEC metering-18: every report and checkpoint carries all notes of the job.
        """
        request = gate_pb2.ReportUsageRequest(
            job=job, usage=[period_usage(item) for item in figures], closing=closing, uncounted=notes
        )
        return self._call(lambda: self._stub.ReportUsage(request, timeout=self._deadline_s))

    def record_checkpoint(self, job: str, checkpoint: SpooledCheckpoint, notes: Iterable[str] = ()) -> None:
        """Tell of a saved model checkpoint. DaemonAway, UnknownJob, or Refused."""
        request = gate_pb2.RecordCheckpointRequest(
            job=job,
            digest=checkpoint.digest,
            usage=[period_usage(item) for item in checkpoint.usage],
            uncounted=notes,
        )
        self._call(lambda: self._stub.RecordCheckpoint(request, timeout=self._deadline_s))

    def close(self) -> None:
        """Cut the connection; a call under way ends as if the daemon were away."""
        self._closed = True
        self._channel.close()

    def _call(self, call: Callable[[], _Answer]) -> _Answer:
        if self._closed:
            raise DaemonAway("the connection is closed")
        return _answered(call)

    def __enter__(self) -> GateClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def period_usage(figure: PeriodFigure) -> gate_pb2.PeriodUsage:
    """A figure as it goes over the socket: operations as minimal big-endian bytes, empty for none."""
    return gate_pb2.PeriodUsage(
        period=figure.period,
        flop=figure.flop.to_bytes((figure.flop.bit_length() + 7) // 8, "big"),
        steps=figure.steps,
        chip_ms=figure.chip_ms,
    )


def _answered(call: Callable[[], _Answer]) -> _Answer:
    try:
        return call()
    except grpc.RpcError as error:
        answer = cast(grpc.Call, error)  # what a blocking call raises is both
        status, details = answer.code(), answer.details() or ""
        if status is grpc.StatusCode.NOT_FOUND:
            raise UnknownJob(details) from None
        refused = _refusal(details)
        if status in _FINAL and refused.code not in _PASSING:
            raise refused from None
        raise DaemonAway(details or status.name) from None


def _refusal(details: str) -> Refused:
    """The daemon's refusal: "code: sentence" as its details say, else its words under a code of ours."""
    code, _, sentence = details.partition(": ")
    if code in tuple(Code) and sentence:
        return Refused(Code(code), sentence)
    return Refused(Code.UNSAFE_STATE, f"the lab daemon refused: {details}")
