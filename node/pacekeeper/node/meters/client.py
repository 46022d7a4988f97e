"""The calls a meter makes to its lab daemon: four, idempotent, each with a deadline, over a Unix socket.

A call ends in one of three ways: the daemon answered; it is away (DaemonAway: try again later, the spool keeps what
was said); it refused (Refused: the sentence is its own).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message

from pacekeeper.node.meters.channel import UnaryChannel, Unreachable
from pacekeeper.node.meters.spool import Opening, SpooledCheckpoint
from pacekeeper.node.meters.usage import PeriodFigure
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.v1 import gate_pb2, statements_pb2

_SERVICE: Final = gate_pb2.DESCRIPTOR.services_by_name["TrainingGate"].full_name


class Status(IntEnum):
    """gRPC's statuses that this side tells apart."""

    OK = 0
    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    FAILED_PRECONDITION = 9
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    UNAUTHENTICATED = 16


_FINAL: Final = frozenset(  # the same call would be refused again; whatever else ends a call may pass
    {
        Status.INVALID_ARGUMENT,
        Status.FAILED_PRECONDITION,
        Status.PERMISSION_DENIED,
        Status.UNAUTHENTICATED,
        Status.ALREADY_EXISTS,
        Status.OUT_OF_RANGE,
        Status.UNIMPLEMENTED,
    }
)
# What a daemon says about its own condition. The room of the log's clients has the same list; a meter does not import
# it, since that sets the environment of the whole training process.
_PASSING: Final = frozenset({Code.OVERLOADED, Code.NOT_WITNESSED, Code.HALTED, Code.CLOCK_DISAGREES})
_Answer = TypeVar("_Answer", bound=Message)


class DaemonAway(Exception):
    """The daemon did not answer in time, nobody listens on its socket, or it says that its trouble may pass."""


class UnknownJob(Exception):
    """The daemon does not know the job: it is to be opened again."""


class GateClient:
    """A connection to the lab daemon. Made lazily: constructing it never fails for a daemon that is down."""

    def __init__(self, socket: Path, deadline_s: float) -> None:
        self._channel = UnaryChannel(socket, deadline_s)

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
            return self._call("OpenJob", request, gate_pb2.OpenJobResponse)
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
        return self._call("ReportUsage", request, gate_pb2.ReportUsageResponse)

    def record_checkpoint(self, job: str, checkpoint: SpooledCheckpoint, notes: Iterable[str] = ()) -> None:
        """Tell of a saved model checkpoint. DaemonAway, UnknownJob, or Refused."""
        request = gate_pb2.RecordCheckpointRequest(
            job=job,
            digest=checkpoint.digest,
            usage=[period_usage(item) for item in checkpoint.usage],
            uncounted=notes,
        )
        self._call("RecordCheckpoint", request, gate_pb2.RecordCheckpointResponse)

    def await_change(self, job: str, after: int) -> int:
        """Return the daemon's revision once it is not the one that is known, or after a while. As report_usage."""
        request = gate_pb2.AwaitChangeRequest(job=job, after=after)
        return self._call("AwaitChange", request, gate_pb2.AwaitChangeResponse).revision

    def close(self) -> None:
        """Cut the connection; a call under way ends as if the daemon were away."""
        self._channel.close()

    def _call(self, method: str, request: Message, kind: type[_Answer]) -> _Answer:
        try:
            answer = self._channel.call(f"/{_SERVICE}/{method}", request.SerializeToString())
        except Unreachable as error:
            raise DaemonAway(str(error)) from None
        if answer.status == Status.OK:
            try:
                return kind.FromString(answer.message)
            except DecodeError as error:
                raise DaemonAway(f"its answer cannot be read: {error}") from None
        if answer.status == Status.NOT_FOUND:
            raise UnknownJob(answer.details)
        refused = _refusal(answer.details)
        if answer.status in _FINAL and refused.code not in _PASSING:
            raise refused
        raise DaemonAway(answer.details or f"gRPC status {answer.status}")

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


def _refusal(details: str) -> Refused:
    """The daemon's refusal: "code: sentence" as its details say, else its words under a code of ours."""
    code, _, sentence = details.partition(": ")
    if code in tuple(Code) and sentence:
        return Refused(Code(code), sentence)
    return Refused(Code.UNSAFE_STATE, f"the lab daemon refused: {details}")
