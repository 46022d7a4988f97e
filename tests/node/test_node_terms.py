"""The terms in force at a lab: what is amended is used as soon as it is read, and an exit ends what is owed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from commitments import build_commitment
from lab_bench import Bench, job_id, job_plan
from lab_commitments import enact
from participants import make_participants

from pacekeeper.node.agenda import first_period
from pacekeeper.node.desk import Reported
from pacekeeper.node.terms import Membership
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.v1 import statements_pb2 as pb

GIGA = 10**9
QUORUM = ("norland", "sudland", "westmere")
ENTRY = {"parties": 3, "delay": "1 s", "notice": "0 s"}


def amendment(ident: str = "change", **tables: Any) -> bytes:
    without = [] if "timing" in tables else ["timing"]
    return build_commitment("amendment", ident, entry=ENTRY, without=without, **tables)


def use(bench: Bench, period: int, number: int = 1) -> None:
    bench.book.write(*bench.desk.report(job_id(number), [Reported(period, GIGA, 1, 1_000)], closing=False))


def methods(bench: Bench, period: int) -> list[int]:
    """The methods by which the runs of a period's account are estimated."""
    [said] = [item for item in bench.log.mine(pb.ComputeAttestation) if item.account.period == period]
    return sorted({estimate.method for figure in said.account.figures for estimate in figure.estimates})


async def test_an_amended_margin_is_used_for_what_begins_after_it(tmp_path: Path) -> None:
    """SPEC node-45: a job that counts within 2 % counts by its own figures up to the amendment's period, not after."""
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("run-1"))
        enact(bench.log, amendment(margins={"framework-count": "1 %", "chip-time": "60 %"}), QUORUM)
        for period in range(3):
            await bench.run_to(bench.end(period) - 5_000)
            use(bench, period)
        await bench.run_to(bench.end(2) + 2_500)
        assert [methods(bench, period) for period in range(3)] == [[1, 2], [2], [2]]
        assert bench.log.state.violations == []
        assert bench.outbox.stopped == ""
        with pytest.raises(Refused) as caught:
            bench.desk.open_job(job_plan("run-2", 2))
        assert caught.value.code is Code.MARGIN_TOO_WIDE
        bench.desk.open_job(job_plan("run-2", 2, margin_ppm=10_000))


async def test_a_configured_margin_that_is_no_longer_admitted_is_not_stated(tmp_path: Path) -> None:
    """SPEC node-45: the account goes on by what is left, and the chain does not stop."""
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("run-1"))
        enact(bench.log, amendment(margins={"framework-count": "5 %", "chip-time": "30 %"}), QUORUM)
        for period in range(2):
            await bench.run_to(bench.end(period) - 5_000)
            use(bench, period)
        await bench.run_to(bench.end(1) + 2_500)
        assert [methods(bench, period) for period in range(2)] == [[1, 2], [1]]
        assert bench.log.state.violations == []


async def test_a_lab_whose_party_leaves_gives_what_it_owes_and_no_more(tmp_path: Path) -> None:
    """SPEC node-46."""
    async with Bench.open(tmp_path, fill_in="30 s") as bench:
        leave = build_commitment(
            "exit", "leave", entry=ENTRY, exit={"party": "norland"}, quorum={"quorum": 2, "liars": 0}
        )
        await bench.run_to(bench.end(0) - 1_000)
        enact(bench.log, leave, QUORUM)
        await bench.run_to(bench.end(4))
        assert [item.account.period for item in bench.log.mine(pb.ComputeAttestation)] == [0, 1]
        assert bench.log.state.labs[bench.settings.lab.id].last_period == 1
        assert bench.log.state.violations == []
        assert (bench.outbox.stopped, bench.outbox.waiting()) == ("", [])
        assert bench.keeper.problem == ""


async def test_a_lab_that_owes_nothing_any_more_signs_nothing_too_late(tmp_path: Path) -> None:
    """SPEC node-46: its key is forgotten by then, and a gap would stop the chain in words that say nothing."""
    async with Bench.open(tmp_path, fill_in="30 s") as bench:
        leave = build_commitment(
            "exit", "leave", entry=ENTRY, exit={"party": "norland"}, quorum={"quorum": 2, "liars": 0}
        )
        enact(bench.log, leave, QUORUM)
        await bench.run_to(bench.clock.wall_ms + 3_000)
        await bench.crash()
        bench.pass_unwatched(100_000)
        bench.start()
        await bench.run_to(bench.clock.wall_ms + 5_000)
        assert bench.log.mine(pb.Gap) == []
        assert bench.outbox.stopped == ""
        assert [item.period for item in bench.log.state.violations] == [0]


def test_the_first_period_of_a_lab_that_acceded_is_the_logs_word() -> None:
    agreement = make_participants().agreement
    epoch = agreement.calendar.epoch_ms
    assert first_period(agreement, epoch) == 0
    assert first_period(agreement, epoch, Membership(first=7)) == 7
