"""The real daemon as a process: killed at random moments under load, started again, and told to stop.

After every kill: no sequence is signed twice, every acknowledged figure is attested, and the log's chain has no break.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import grpc.aio
import pytest
from daemon_site import Site, refuse_to_run
from lab_bench import LAB, AdmittingLog, digest, eventually, job_id

from pacekeeper.node.daemon import declare, read_status
from pacekeeper.node.journal import Journal
from pacekeeper.node.records import Signed, decode_record
from pacekeeper.protocol.envelope import parse_envelope
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.statements import parse_statement
from pacekeeper.v1 import gate_pb2, gate_pb2_grpc
from pacekeeper.v1 import statements_pb2 as pb

SEED = 20261122
KILLS = 6


class Job:
    """A job that reports as a meter does: cumulative, again after every failure. said: what was acknowledged."""

    def __init__(self, site: Site, number: int) -> None:
        self.site = site
        self.id = job_id(number)
        self.run = f"run-{number}"
        self.used: dict[int, int] = {}
        self.acknowledged: dict[int, int] = {}
        self.checkpoints = 0

    async def train(self, stop: asyncio.Event) -> None:
        agreement = self.site.people.agreement
        while not stop.is_set():
            period = agreement.period_of(time.time_ns() // 1_000_000)
            self.used[period] = self.used.get(period, 0) + 10**9
            await self.report(closing=False)
            await asyncio.sleep(0.02)
        while not await self.report(closing=True):  # noqa: ASYNC110 - the daemon may be down, and comes back
            await asyncio.sleep(0.05)

    async def report(self, *, closing: bool) -> bool:
        used = dict(self.used)
        usage = [
            gate_pb2.PeriodUsage(period=k, flop=v.to_bytes(8, "big").lstrip(b"\0"), steps=v // 10**9, chip_ms=1)
            for k, v in used.items()
        ]
        opening = gate_pb2.OpenJobRequest(
            job=self.id,
            run=self.run,
            initial_state=pb.INITIAL_STATE_FRESH,
            initial_digest=digest(self.run),
            chips=1,
            method=pb.METHOD_FRAMEWORK_COUNT,
        )
        try:
            async with grpc.aio.insecure_channel("unix:" + quote(str(self.site.settings.socket))) as channel:
                gate = gate_pb2_grpc.TrainingGateStub(channel)
                await gate.OpenJob(opening, timeout=1)
                await gate.ReportUsage(
                    gate_pb2.ReportUsageRequest(job=self.id, usage=usage, closing=closing), timeout=1
                )
                if sum(used.values()) > (self.checkpoints + 1) * 40 * 10**9:
                    self.checkpoints += 1
                    record = gate_pb2.RecordCheckpointRequest(
                        job=self.id, digest=digest(f"{self.run}/{self.checkpoints}"), usage=usage
                    )
                    await gate.RecordCheckpoint(record, timeout=1)
        except grpc.aio.AioRpcError:
            return False
        self.acknowledged = used
        return True


def signed_in_journal(path: Path) -> list[Signed]:
    journal = Journal(path)
    records = [decode_record(payload) for _, payload in journal.recover()]
    journal.close()
    return [record for record in records if isinstance(record, Signed)]


def attested(log: AdmittingLog, run: str) -> dict[int, int]:
    """GigaFLOP that stand attested for a run, by period."""
    amounts: dict[int, int] = {}
    for applied in log.applied:
        if isinstance(applied.statement, pb.ComputeAttestation | pb.Correction):
            account = applied.statement.account
            figures = {figure.run: figure.estimates[0].amount for figure in account.figures}
            amounts[account.period] = figures.get(run, 0)
    return {period: amount for period, amount in amounts.items() if amount}


async def test_daemon_killed_under_load_signs_nothing_twice_and_loses_nothing(tmp_path: Path) -> None:
    """SPEC node-4, node-8, node-21, over kill -9 at random moments (FAULTS 1, 31 to 33)."""
    dice = random.Random(SEED)
    async with Site(tmp_path) as site:
        stop = asyncio.Event()
        jobs = [Job(site, number) for number in (1, 2)]
        training = [asyncio.create_task(job.train(stop)) for job in jobs]
        for _ in range(KILLS):
            await site.start()
            await asyncio.sleep(dice.uniform(0.05, 1.8))
            site.log.lose_answers = dice.randrange(2)
            site.kill()
        await site.start()
        stop.set()
        await asyncio.gather(*training)
        last = site.people.agreement.period_of(time.time_ns() // 1_000_000)
        await eventually(lambda: bool(site.lab.next_period > last))
        await asyncio.sleep(1.5)
        assert await site.stop() == 0
        for job in jobs:
            assert attested(site.log, job.run) == {k: v // 10**9 for k, v in job.acknowledged.items()}
    signed = signed_in_journal(site.settings.state / "journal")
    chain = [record for record in signed if record.sequence]
    assert [record.sequence for record in chain] == list(range(1, len(chain) + 1))
    submitted: dict[int, set[bytes]] = {}
    for data in site.log.received:
        statement = parse_statement(parse_envelope(data))
        if hasattr(statement, "link"):
            submitted.setdefault(statement.link.sequence, set()).add(data)
    assert {sequence: len(bodies) for sequence, bodies in submitted.items()} == dict.fromkeys(submitted, 1)
    assert set(site.log.received) <= {record.envelope for record in signed}
    assert site.lab.sequence == len(chain)
    status = read_status(site.config)
    assert status is not None
    assert status.outbox == 0


async def test_daemon_says_what_it_does_and_stops_cleanly(tmp_path: Path) -> None:
    async with Site(tmp_path) as site:
        await site.start()
        assert await asyncio.to_thread(declare, site.config, "planned", title="Planned run")
        with pytest.raises(Refused, match="another initial state"):
            await asyncio.to_thread(
                declare, site.config, "planned", initial_state=pb.INITIAL_STATE_FRESH, initial_digest=digest("x")
            )
        await eventually(lambda: f"{LAB}/planned" in site.log.state.lineage.runs)

        def has_attested() -> bool:
            status = read_status(site.config)
            return status is not None and status.last_period_attested is not None and status.outbox == 0

        await eventually(has_attested)
        status = read_status(site.config)
        assert status is not None
        assert status.lab == LAB
        assert status.runs == ["planned"]
        assert status.problems == []
        facts = json.loads((site.settings.state / "ready").read_bytes())
        assert facts["socket"] == str(site.settings.socket)
        code, said = await asyncio.to_thread(refuse_to_run, site.config)
        assert code == 5
        assert b"another process is using this journal" in said
        assert b"Traceback" not in said
        assert site.settings.socket.exists(), "the running daemon keeps its socket"
        assert await site.stop() == 0
        assert not (site.settings.state / "ready").exists()
        assert not site.settings.socket.exists()
        (site.settings.state / "journal").rename(tmp_path / "journal")
        code, said = await asyncio.to_thread(refuse_to_run, site.config)
        assert code == 5, "a daemon without its journal signs nothing once it sees its own past on the log"
        assert b"older than the log" in said
        assert b"Traceback" not in said


@pytest.mark.parametrize(
    ("name", "damage", "status", "says"),
    [
        ("state/journal", lambda data: data[:30] + bytes([data[30] ^ 1]) + data[31:], 5, "journal: damaged at byte"),
        ("lab.key", lambda data: data[:40], 5, "lab.key"),
        ("lab.toml", lambda data: data + b"\nunknown = 1\n", 2, "lab.toml"),
        ("lab.toml", lambda data: data.replace(b"100e9 FLOP/s", b"100e9"), 2, "pools[0].peak"),
        ("lab.toml", lambda data: data.replace(b'lab = "borealis"', b'lab = "other"'), 2, "no lab"),
        ("lab.toml", lambda data: data + b"[[pools]]\nmodel='test-chip'\ncount=1\npeak='1e9 FLOP/s'\n", 2, "one model"),
        ("lab.toml", lambda data: b'socket = "%b"\n' % (b"s" * 120) + data, 2, "at most 107"),
        ("tls.crt.pem", lambda data: b"", 2, "tls.crt.pem"),
        ("bundle/agreement.md", lambda data: data + b"\nmore\n", 2, "agreement"),
    ],
)
def test_daemon_with_a_damaged_file_says_which_and_exits(
    tmp_path: Path, name: str, damage: Any, status: int, says: str
) -> None:
    site = Site(tmp_path)
    (tmp_path / "state").mkdir()
    journal = Journal(tmp_path / "state" / "journal")
    list(journal.recover())
    journal.append([b"x" * 20])
    journal.close()
    path = tmp_path / name
    path.write_bytes(damage(path.read_bytes()))
    code, said = refuse_to_run(site.config)
    assert code == status
    assert says.encode() in said
    assert b"Traceback" not in said
