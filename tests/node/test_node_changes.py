"""Word of a change: at once to whoever waits, and no way to keep others out by waiting."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from lab_bench import Bench, digest, eventually, job_id, job_plan
from lab_commitments import enact, lift, pause_document
from served_gate import opening, refusal, serving

from pacekeeper.node import changes
from pacekeeper.v1 import gate_pb2


def asking(job: str, after: int) -> gate_pb2.AwaitChangeRequest:
    return gate_pb2.AwaitChangeRequest(job=job, after=after)


async def known(gate: Any, job: str = job_id(1)) -> int:
    return int((await gate.AwaitChange(asking(job, 0))).revision)


async def test_who_waits_hears_of_a_pledge_and_of_a_lift_and_of_nothing_else(tmp_path: Path) -> None:
    """SPEC node-38."""
    async with Bench.open(tmp_path) as bench, serving(bench, tmp_path / "gate.sock") as gate:
        looking = asyncio.create_task(bench.changes.run())
        await gate.OpenJob(opening())
        await bench.read_all()
        first = await known(gate)
        call = asyncio.ensure_future(gate.AwaitChange(asking(job_id(1), first)))
        bench.log.tick()
        await bench.read_all()
        await asyncio.sleep(0.1)
        assert not call.done(), "a tick binds nobody"
        ident = enact(bench.log, pause_document())
        second = (await asyncio.wait_for(call, 5)).revision
        assert second != first
        await bench.run_to(bench.clock.wall_ms + 30_000)
        third = await known(gate)
        call = asyncio.ensure_future(gate.AwaitChange(asking(job_id(1), third)))
        lift(bench.log, ident)
        assert (await asyncio.wait_for(call, 5)).revision != third
        looking.cancel()


async def test_a_call_ends_in_time_and_a_second_one_of_a_job_ends_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SPEC node-38: one for each job, and none for ever."""
    async with Bench.open(tmp_path) as bench, serving(bench, tmp_path / "gate.sock") as gate:
        await gate.OpenJob(opening())
        revision = await known(gate)
        first = asyncio.ensure_future(gate.AwaitChange(asking(job_id(1), revision)))
        await asyncio.sleep(0.1)
        monkeypatch.setattr(changes, "WAIT_S", 0.3)
        second = asyncio.ensure_future(gate.AwaitChange(asking(job_id(1), revision)))
        assert (await asyncio.wait_for(first, 5)).revision == revision
        assert not second.done()
        assert (await asyncio.wait_for(second, 5)).revision == revision
        assert bench.changes._waiting == {}


async def test_unknown_and_closed_jobs_wait_for_nothing(tmp_path: Path) -> None:
    async with Bench.open(tmp_path) as bench, serving(bench, tmp_path / "gate.sock") as gate:
        assert await refusal(gate.AwaitChange(asking(job_id(9), 0))) == "not-found"
        bench.desk.open_job(job_plan("run-1"))
        bench.book.write(*bench.desk.report(job_id(1), [], closing=True))
        assert await refusal(gate.AwaitChange(asking(job_id(1), 0))) == "not-found"


async def test_a_flood_of_waiting_calls_keeps_no_report_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SPEC node-38: those over the limit are refused at once, reports are answered, what was cut off leaves room."""
    monkeypatch.setattr(changes, "MAX_WAITING", 3)
    path = tmp_path / "gate.sock"
    async with Bench.open(tmp_path) as bench, serving(bench, path) as gate:
        for number in range(1, 6):
            bench.desk.open_job(job_plan("run-1", number))
        await bench.read_all()
        revision = await known(gate)
        flood = [
            asyncio.ensure_future(refusal(gate.AwaitChange(asking(job_id(1 + number % 5), revision))))
            for number in range(2_000)
        ]
        usage = [gate_pb2.PeriodUsage(period=0, flop=b"\x05", steps=1, chip_ms=1)]
        report = gate.ReportUsage(gate_pb2.ReportUsageRequest(job=job_id(1), usage=usage))
        answer = await asyncio.wait_for(report, 10)
        assert answer.decision == gate_pb2.DECISION_PROCEED
        await eventually(lambda: sum(not call.done() for call in flood) == len(bench.changes._waiting), 30)
        assert len(bench.changes._waiting) <= 3
        assert "overloaded" in [call.result() for call in flood if call.done()]
        for call in flood:
            call.cancel()
        await asyncio.gather(*flood, return_exceptions=True)
        await eventually(lambda: not bench.changes._waiting, 5)
        waits = asyncio.ensure_future(refusal(gate.AwaitChange(asking(job_id(5), revision))))
        await asyncio.sleep(0.2)
        assert not waits.done()
        bench.changes.close()
        assert await asyncio.wait_for(waits, 5) == ""
        assert await known(gate, job_id(2)) == revision


async def test_malformed_waiting_calls_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "gate.sock"
    async with Bench.open(tmp_path) as bench, serving(bench, path) as gate:
        await gate.OpenJob(opening(initial_digest=digest("x")))
        async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
            raw: Any = channel.unary_unary("/pacekeeper.v1.TrainingGate/AwaitChange")
            for data in (b"\xff" * 64, b"\x0a\xff\xff\xff\xff\x0f", b"\x00" * 5_000_000):
                with pytest.raises(grpc.aio.AioRpcError):
                    await raw(data)
        for job in ("", "x" * 100_000, "../" + job_id(1)):
            assert await refusal(gate.AwaitChange(asking(job, 0))) == "not-found"
        assert bench.changes._waiting == {}
