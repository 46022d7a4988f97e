"""The meter's channel against gRPC's own server: one connection, deadlines, a daemon that comes and goes."""

from __future__ import annotations

import socket
import threading
import time
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from recording_gate import RecordingGate, eventually

from pacekeeper.node.meters.channel import UnaryChannel, Unreachable
from pacekeeper.node.meters.client import DaemonAway, GateClient, Status, UnknownJob
from pacekeeper.node.meters.spool import Opening, SpooledCheckpoint
from pacekeeper.node.meters.usage import PeriodFigure
from pacekeeper.protocol.errors import Code, Refused

JOB = Opening("ab" * 16, "run-1", "Über", 3, b"", 1, 1, 0)
REPORT = "/pacekeeper.v1.TrainingGate/ReportUsage"


@pytest.mark.parametrize(
    ("status", "details", "ending"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "bad-field: no such thing", Refused),
        (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", Refused),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "overloaded: report again", DaemonAway),
        (grpc.StatusCode.FAILED_PRECONDITION, "clock-disagrees: by an hour", DaemonAway),
        (grpc.StatusCode.UNKNOWN, "Unexpected exception", DaemonAway),
        (grpc.StatusCode.NOT_FOUND, "not-found: no such job", UnknownJob),
    ],
)
def test_how_a_call_ended_says_whether_to_try_again(
    gate: RecordingGate, status: grpc.StatusCode, details: str, ending: type[Exception]
) -> None:
    """SPEC metering-4: a refusal is final, trouble of the daemon's own passes, an unknown job is opened again."""
    gate.refuse, gate.refuse_with = details, status
    with GateClient(gate.socket, 5.0) as client, pytest.raises(ending):
        client.report_usage("ab" * 16, [])


def test_the_statuses_are_grpcs() -> None:
    assert {status.name: status.value for status in Status}.items() <= {
        status.name: status.value[0] for status in grpc.StatusCode
    }.items()


def test_a_refusals_words_arrive_as_they_were_said(gate: RecordingGate) -> None:
    gate.refuse = 'unknown-run: "100 % größer"\n'
    with GateClient(gate.socket, 5.0) as client, pytest.raises(Refused) as refusal:
        client.open_job(JOB)
    assert (refusal.value.code, refusal.value.message) == (Code.UNKNOWN_RUN, '"100 % größer"\n')


def test_a_thousand_calls_and_a_long_one_go_over_one_connection(gate: RecordingGate) -> None:
    """A checkpoint of many periods is many frames and passes every window that the server first opens."""
    figures = tuple(PeriodFigure(period, 2**70 + period, 3, 60_000) for period in range(50_000))
    with GateClient(gate.socket, 20.0) as client:
        client.open_job(JOB)
        kept = client._channel._socket
        for number in range(1_000):
            client.report_usage(JOB.job, [PeriodFigure(1, number, number, number)])
        client.record_checkpoint(JOB.job, SpooledCheckpoint(b"\1" * 32, figures))
        client.report_usage(JOB.job, [PeriodFigure(1, 1_000, 1_000, 1_000)])
        assert client._channel._socket is kept
    assert gate.job.usage[1] == (1_000, 1_000, 1_000)
    assert len(gate.job.checkpoints[b"\1" * 32]) == 50_000
    assert gate.job.checkpoints[b"\1" * 32][-1] == (49_999, 2**70 + 49_999, 3, 60_000)


def test_a_daemon_that_was_restarted_between_two_calls_is_no_absence(gate: RecordingGate) -> None:
    """SPEC metering-4: a call may be made again, so a connection that died meanwhile is replaced in silence."""
    with GateClient(gate.socket, 5.0) as client:
        client.open_job(JOB)
        gate.stop()
        with pytest.raises(DaemonAway, match=r"gate\.sock: (Connection refused|No such file or directory)"):
            client.report_usage(JOB.job, [])
        gate.start()
        client.report_usage(JOB.job, [PeriodFigure(1, 5, 1, 1)])
        gate.stop()
        gate.start()
        client.report_usage(JOB.job, [PeriodFigure(1, 6, 2, 2)])
    assert gate.job.usage == {1: (6, 2, 2)}


def test_a_call_has_a_deadline_whether_or_not_anyone_reads(gate: RecordingGate, tmp_path: Path) -> None:
    """SPEC metering-3: neither a server that is slow nor a listener that accepts nothing holds a caller longer."""
    gate.delay_s = 2.0
    with GateClient(gate.socket, 0.2) as client:
        begun = time.monotonic()
        with pytest.raises(DaemonAway, match=r"no answer within 0.2 s"):
            client.open_job(JOB)
        assert time.monotonic() - begun < 1.0
    silent = gate.socket.with_name("silent.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(silent))
        listener.listen(1)
        channel = UnaryChannel(silent, 0.2)
        begun = time.monotonic()
        for size in (1, 10_000_000):  # the longer one does not even fit what the kernel holds for a reader
            with pytest.raises(Unreachable):
                channel.call(REPORT, bytes(size))
        assert time.monotonic() - begun < 2.0
        channel.close()


def test_closing_ends_a_call_under_way(gate: RecordingGate) -> None:
    gate.delay_s = 3.0
    channel = UnaryChannel(gate.socket, 20.0)
    ended = threading.Event()

    def call() -> None:
        with pytest.raises(Unreachable):
            channel.call(REPORT, b"")
        ended.set()

    caller = threading.Thread(target=call)
    caller.start()
    eventually(lambda: channel._socket is not None, "the call is under way")
    time.sleep(0.1)
    channel.close()
    assert ended.wait(1.0)
    caller.join()
    with pytest.raises(Unreachable, match="closed"):
        channel.call(REPORT, b"")


def test_a_server_that_refuses_every_stream_is_away(stopped_gate: RecordingGate) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(1))  # no service: every method is unknown to it
    server.add_insecure_port(f"unix:{stopped_gate.socket}")
    server.start()
    try:
        with GateClient(stopped_gate.socket, 5.0) as client, pytest.raises(Refused, match="Method not found"):
            client.open_job(JOB)
    finally:
        server.stop(None).wait()


def test_a_listener_that_speaks_another_language_is_away(stopped_gate: RecordingGate) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(stopped_gate.socket))
        listener.listen(1)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(1 << 16)

        threading.Thread(target=serve, daemon=True).start()
        with GateClient(stopped_gate.socket, 5.0) as client, pytest.raises(DaemonAway, match="longer than is allowed"):
            client.open_job(JOB)
