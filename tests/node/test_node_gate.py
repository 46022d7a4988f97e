"""The training gate over its real socket: what jobs may do, and what hostile ones cannot."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import grpc.aio
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from lab_bench import Bench, digest, job_id, job_plan
from served_gate import opening, refusal, serving

from pacekeeper.client.errors import ConfigError
from pacekeeper.node.config import check_socket_path
from pacekeeper.node.desk import MAX_FLOP, Reported
from pacekeeper.node.meters.http2 import ClientConnection, FrameKind, call_headers
from pacekeeper.node.meters.meter import Meter
from pacekeeper.node.meters.settings import MeterSettings
from pacekeeper.node.training_gate import clear_stale_socket, read_usage
from pacekeeper.protocol.errors import Refused
from pacekeeper.v1 import gate_pb2

EPOCH_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z, the bench's epoch


async def test_job_is_opened_reported_and_closed_over_the_socket(tmp_path: Path) -> None:
    """SPEC node-28: and is told to hold until the log has been read."""
    async with Bench.open(tmp_path) as bench, serving(bench, tmp_path / "gate.sock") as gate:
        bench.reader.caught_up = False
        opened = await gate.OpenJob(opening())
        assert (opened.decision, opened.stand_by) == (gate_pb2.DECISION_HOLD, True)
        await bench.read_all()
        opened = await gate.OpenJob(opening())
        assert opened.decision == gate_pb2.DECISION_PROCEED
        assert opened.calendar.period_ms == 10_000
        usage = [gate_pb2.PeriodUsage(period=0, flop=b"\x01\x00", steps=2, chip_ms=30)]
        for closing in (False, True, True):
            answer = await gate.ReportUsage(gate_pb2.ReportUsageRequest(job=job_id(1), usage=usage, closing=closing))
            assert answer.decision == gate_pb2.DECISION_PROCEED
        await gate.RecordCheckpoint(
            gate_pb2.RecordCheckpointRequest(job=job_id(1), digest=digest("saved"), usage=usage)
        )
        figure = bench.book.ledger.runs["run-1"].usage[0][job_id(1)]
        assert (figure.flop, figure.steps, figure.chip_ms) == (256, 2, 30)
        assert bench.book.ledger.jobs[job_id(1)].closed
        await gate.OpenJob(opening())


async def test_report_is_answered_only_when_it_is_in_the_journal(tmp_path: Path) -> None:
    """SPEC node-21: what was acknowledged is there after a crash, and a lower report later changes nothing."""
    async with Bench.open(tmp_path) as bench:
        async with serving(bench, tmp_path / "gate.sock") as gate:
            await gate.OpenJob(opening())
            for flop in (b"\x05", b"\x09", b"\x02"):
                usage = [gate_pb2.PeriodUsage(period=0, flop=flop, steps=flop[0], chip_ms=flop[0])]
                await gate.ReportUsage(gate_pb2.ReportUsageRequest(job=job_id(1), usage=usage))
        await bench.crash()
        bench.start()
        figure = bench.book.ledger.runs["run-1"].usage[0][job_id(1)]
        assert (figure.flop, figure.steps, figure.chip_ms) == (9, 9, 9)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"job": "x"}, "bad-field"),
        ({"job": job_id(1).upper().replace("0", "A")}, "bad-field"),
        ({"job": job_id(1) + "\n"}, "bad-field"),
        ({"job": ""}, "bad-field"),
        ({"run": "../etc"}, "bad-field"),
        ({"run": ""}, "bad-field"),
        ({"run": "r" * 65}, "bad-field"),
        ({"run": "Run"}, "bad-field"),
        ({"title": "\x1b[2J"}, "bad-field"),
        ({"title": "t" * 401}, "bad-field"),
        ({"title": "\u202egnp.exe"}, "bad-field"),
        ({"initial_state": 0}, "bad-field"),
        ({"initial_state": 99}, "bad-field"),
        ({"initial_digest": b"short"}, "bad-field"),
        ({"initial_state": 3}, "bad-field"),
        ({"chips": 0}, "bad-field"),
        ({"chips": 9}, "inventory-exceeded"),
        ({"chips": 2**64 - 1}, "bad-field"),
        ({"method": 0}, "bad-field"),
        ({"method": 77}, "bad-field"),
        ({"margin_ppm": 50_001}, "margin-too-wide"),
        ({"margin_ppm": 2**32 - 1}, "bad-field"),
    ],
)
async def test_job_that_may_not_run_is_refused_and_leaves_nothing(
    tmp_path: Path, changed: dict[str, Any], code: str
) -> None:
    """SPEC node-14: refused with a stable code, and the lab's record is as before."""
    async with Bench.open(tmp_path) as bench, serving(bench, tmp_path / "gate.sock") as gate:
        assert await refusal(gate.OpenJob(opening(**changed))) == code
        assert bench.book.ledger.jobs == {}
        assert bench.book.ledger.statements == {}
        assert await refusal(gate.OpenJob(opening())) == ""


async def test_report_that_adds_nothing_writes_nothing(tmp_path: Path) -> None:
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("run-1"))
        usage = [Reported(0, 5, 1, 1)]
        bench.book.write(*bench.desk.report(job_id(1), usage, closing=True))
        assert bench.desk.report(job_id(1), usage, closing=True) == []


async def test_inventory_is_shared_by_running_jobs_and_given_back(tmp_path: Path) -> None:
    """SPEC node-14: accelerators that the lab does not have are not given out."""
    async with Bench.open(tmp_path) as bench, serving(bench, tmp_path / "gate.sock") as gate:
        assert await refusal(gate.OpenJob(opening(chips=5))) == ""
        assert await refusal(gate.OpenJob(opening(job=job_id(2), chips=4))) == "inventory-exceeded"
        assert await refusal(gate.OpenJob(opening(job=job_id(3), chips=3))) == ""
        await gate.ReportUsage(gate_pb2.ReportUsageRequest(job=job_id(1), closing=True))
        assert await refusal(gate.OpenJob(opening(job=job_id(2), chips=5))) == ""
        assert await refusal(gate.OpenJob(opening(job=job_id(4), chips=1))) == "inventory-exceeded"
        bench.clock.advance(31_000)
        assert await refusal(gate.OpenJob(opening(job=job_id(4), chips=8))) == ""


async def test_job_runs_on_accelerators_of_one_model(tmp_path: Path) -> None:
    pools = "".join(f'[[pools]]\nmodel = "chip-{n}"\ncount = {n}\npeak = "1e12 FLOP/s"\n' for n in (2, 4))
    async with Bench.open(tmp_path, pools=pools) as bench:
        bench.desk.open_job(job_plan("run-1", 1, chips=3))
        assert bench.book.ledger.jobs[job_id(1)].pool == "chip-4"
        with pytest.raises(Refused, match="of one model"):
            bench.desk.open_job(job_plan("run-1", 2, chips=3))
        bench.desk.open_job(job_plan("run-1", 2, chips=2))
        assert bench.book.ledger.jobs[job_id(2)].pool == "chip-2"


async def test_job_id_belongs_to_what_it_was_opened_with(tmp_path: Path) -> None:
    async with Bench.open(tmp_path) as bench, serving(bench, tmp_path / "gate.sock") as gate:
        assert await refusal(gate.OpenJob(opening())) == ""
        assert await refusal(gate.OpenJob(opening())) == ""
        assert await refusal(gate.OpenJob(opening(run="run-2"))) == "bad-field"
        assert await refusal(gate.OpenJob(opening(chips=2))) == "bad-field"
        assert len(bench.book.ledger.statements) == 1


async def test_undeclared_run_needs_auto_declare(tmp_path: Path) -> None:
    """SPEC node-14: with auto_declare off only declared runs start."""
    async with Bench.open(tmp_path, more="auto_declare = false\n") as bench:
        with pytest.raises(Refused, match="not declared"):
            bench.desk.open_job(job_plan("run-1"))
        bench.desk.declare(job_plan("run-1").plan)
        bench.desk.declare(job_plan("run-1").plan)
        bench.desk.open_job(job_plan("run-1"))
        assert len(bench.book.ledger.statements) == 1


async def test_run_cannot_go_on_from_another_runs_checkpoint(tmp_path: Path) -> None:
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("one", 1))
        bench.desk.open_job(job_plan("two", 2))
        bench.desk.take_checkpoint(job_id(1), digest("ckpt"), [])
        with pytest.raises(Refused, match="name a new run"):
            bench.desk.open_job(job_plan("two", 3, initial_state=2, initial_digest=digest("ckpt")))
        bench.desk.open_job(job_plan("one", 3, initial_state=2, initial_digest=digest("ckpt")))
        bench.desk.open_job(job_plan("three", 4, initial_state=2, initial_digest=digest("ckpt")))


@pytest.mark.parametrize(
    ("usage", "code"),
    [
        ({"flop": b"\x00\x01"}, "not-canonical"),
        ({"flop": b"\xff" * 16}, "bad-field"),
        ({"flop": b"\xff" * 100_000}, "bad-field"),
        ({"flop": (MAX_FLOP + 1).to_bytes(11, "big")}, "bad-field"),
        ({"steps": 2**64 - 1}, "bad-field"),
        ({"chip_ms": 2**53}, "bad-field"),
        ({"period": 2**64 - 1}, "bad-field"),
        ({"period": 1_000_000}, "bad-field"),
    ],
)
async def test_hostile_usage_is_refused_whole(tmp_path: Path, usage: dict[str, Any], code: str) -> None:
    """SPEC node-13: refused by shape and range, none of the report is taken."""
    async with Bench.open(tmp_path) as bench, serving(bench, tmp_path / "gate.sock") as gate:
        await gate.OpenJob(opening())
        figures = [gate_pb2.PeriodUsage(period=0, flop=b"\x01"), gate_pb2.PeriodUsage(**usage)]
        report = gate_pb2.ReportUsageRequest(job=job_id(1), usage=figures, closing=True)
        assert await refusal(gate.ReportUsage(report)) == code
        assert bench.book.ledger.runs["run-1"].usage == {}
        assert not bench.book.ledger.jobs[job_id(1)].closed


async def test_unknown_jobs_and_bad_digests_are_refused(tmp_path: Path) -> None:
    async with Bench.open(tmp_path) as bench, serving(bench, tmp_path / "gate.sock") as gate:
        assert await refusal(gate.ReportUsage(gate_pb2.ReportUsageRequest(job=job_id(9)))) == "not-found"
        await gate.OpenJob(opening())
        record = gate_pb2.RecordCheckpointRequest(job=job_id(1), digest=b"x")
        assert await refusal(gate.RecordCheckpoint(record)) == "bad-field"
        record = gate_pb2.RecordCheckpointRequest(job=job_id(2), digest=digest("x"))
        assert await refusal(gate.RecordCheckpoint(record)) == "not-found"


async def test_oversized_and_malformed_messages_do_not_stop_the_gate(tmp_path: Path) -> None:
    path = tmp_path / "gate.sock"
    async with Bench.open(tmp_path) as bench, serving(bench, path) as gate:
        await gate.OpenJob(opening())
        async with grpc.aio.insecure_channel("unix:" + quote(str(path))) as channel:
            raw: Any = channel.unary_unary("/pacekeeper.v1.TrainingGate/ReportUsage")
            for data in (b"\xff" * 64, b"\x0a\xff\xff\xff\xff\x0f", b"\x00" * 5_000_000):
                with pytest.raises(grpc.aio.AioRpcError):
                    await raw(data)
        with socket.socket(socket.AF_UNIX) as noise:
            noise.connect(str(path))
            noise.sendall(os.urandom(1000))
            assert await refusal(gate.OpenJob(opening())) == ""


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_as_a_report_are_refused_or_read(data: bytes) -> None:
    request = gate_pb2.ReportUsageRequest()
    with suppress(DecodeError, Refused):
        request.ParseFromString(data)
        for item in read_usage(request.usage):
            assert 0 <= item.flop <= MAX_FLOP


async def test_real_meter_reports_through_the_gate(tmp_path: Path) -> None:
    """The meter that labs use and this gate agree: figures, a checkpoint and the close arrive, and the file goes."""
    path = tmp_path / "gate.sock"

    def train() -> None:
        meter = Meter.open("run-1", initial_digest=digest("fresh"), settings=MeterSettings(path, bench.settings.spool))
        for _ in range(5):
            meter.step(3 * 10**9)
        meter.checkpoint(digest("saved"))
        meter.close()

    async with Bench.open(tmp_path, late_ms=time.time_ns() // 1_000_000 - EPOCH_MS) as bench, serving(bench, path):
        await asyncio.to_thread(train)
        run = bench.book.ledger.runs["run-1"]
        figures = [figure for jobs in run.usage.values() for figure in jobs.values()]
        assert sum(figure.flop for figure in figures) == 15 * 10**9
        assert run.recorded_steps == 5
        assert [job.closed for job in bench.book.ledger.jobs.values()] == [True]
        assert list(bench.settings.spool.glob("*.json")) == []


async def test_job_that_died_long_ago_holds_no_accelerators_after_a_restart(tmp_path: Path) -> None:
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("run-1", chips=8))
        await bench.run_to(bench.end(5))
        bench.desk.open_job(job_plan("run-2", 2, chips=3))
        await bench.crash()
        bench.start()
        assert [job.id for job in bench.desk.running()] == [job_id(2)]
        bench.desk.open_job(job_plan("run-3", 3, chips=5))


async def test_socket_is_its_owners_alone_even_in_an_odd_folder(tmp_path: Path) -> None:
    """SPEC node-22: mode 0600; a path with spaces and percent signs serves too."""
    path = tmp_path / "a b%20c" / "gate.sock"
    async with Bench.open(tmp_path) as bench, serving(bench, path) as gate:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await refusal(gate.OpenJob(opening())) == ""


async def test_second_daemon_does_not_take_the_socket(tmp_path: Path) -> None:
    """SPEC node-22: a socket that somebody listens on stays theirs; a dead one is cleared; another file is kept."""
    path = tmp_path / "gate.sock"
    async with Bench.open(tmp_path) as bench:
        async with serving(bench, path) as gate:
            with pytest.raises(Refused, match="another daemon"):
                clear_stale_socket(path)
            assert await refusal(gate.OpenJob(opening())) == ""
        with socket.socket(socket.AF_UNIX) as dead:
            path.unlink(missing_ok=True)
            dead.bind(str(path))
        clear_stale_socket(path)
        assert not path.exists()
        path.write_text("notes")
        with pytest.raises(Refused, match="not a socket"):
            clear_stale_socket(path)
        assert path.read_text() == "notes"


def test_socket_path_that_no_socket_can_have_is_said_at_the_start(tmp_path: Path) -> None:
    check_socket_path(Path("/" + "x" * 106), "socket")
    with pytest.raises(ConfigError, match=r"108 bytes.*at most 107"):
        check_socket_path(Path("/" + "x" * 107), "socket")


async def test_the_gate_measures_no_bandwidth(tmp_path: Path) -> None:
    """A ping with each report would wake every meter once more than its report does."""
    path = tmp_path / "gate.sock"
    received = bytearray()
    async with Bench.open(tmp_path) as bench, serving(bench, path):
        reader, writer = await asyncio.open_unix_connection(str(path))
        connection = ClientConnection()
        for _ in range(4):
            connection.begin(call_headers("/pacekeeper.v1.TrainingGate/OpenJob", 5.0), opening().SerializeToString())
            writer.write(connection.outgoing())
            answer = None
            while answer is None:
                data = await reader.read(65_536)
                received += data
                answer = connection.receive(data)
            assert answer.status == 0
        writer.close()
    kinds = []
    while received:
        kinds.append(received[3])
        del received[: 9 + int.from_bytes(received[:3], "big")]
    assert kinds.count(FrameKind.DATA) == 4
    assert FrameKind.PING not in kinds
