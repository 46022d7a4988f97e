"""Delivery on the bench, over real gRPC: lost answers, false receipts, refusals, and a lab that is not alone."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from commitments import build_commitment
from lab_bench import LAB, AdmittingLog, Bench, digest, eventually, job_id, job_plan, lab_key

from pacekeeper.client.submit import LogClient, VerifiedBatch, WitnessedReceipt
from pacekeeper.node.outbox import FIRST_PAUSE_MS, LONGEST_PAUSE_MS
from pacekeeper.node.records import ATTESTATION, DECLARATION
from pacekeeper.protocol import envelope
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.statements import seal
from pacekeeper.protocol.tlog.receipt import check_receipt, parse_receipt
from pacekeeper.v1 import log_pb2
from pacekeeper.v1 import statements_pb2 as pb


async def test_lost_answers_bring_the_same_bytes_again_and_one_entry(tmp_path: Path) -> None:
    """SPEC node-17: what was not acknowledged is sent again byte for byte; the log has it once (FAULTS 31)."""
    async with Bench.open(tmp_path) as bench:
        await bench.run_to(bench.end(0) + 2_000, deliver=False)
        bench.log.lose_answers = 3
        for _ in range(4):
            await bench.outbox.deliver_once()
        assert len(bench.log.received) == 4
        assert len(set(bench.log.received)) == 1
        assert bench.lab.attested == 1
        assert bench.book.ledger.unsent == {}
        assert bench.outbox.waiting() == []


async def test_statement_survives_a_crash_before_and_after_it_is_sent(tmp_path: Path) -> None:
    """SPEC node-8: signed means journalled; a restart sends the same bytes."""
    async with Bench.open(tmp_path) as bench:
        await bench.run_to(bench.end(0) + 2_000, deliver=False)
        [signed] = bench.outbox.waiting()
        await bench.crash()
        bench.start()
        assert [item.envelope for item in bench.outbox.waiting()] == [signed.envelope]
        bench.log.lose_answers = 1
        await bench.outbox.deliver_once()
        await bench.crash()
        bench.start()
        await bench.read_all()
        await bench.work()
        assert [item for item in bench.log.received if item != signed.envelope] == []
        assert bench.lab.sequence == 1


async def test_receipt_is_kept_as_a_proof_that_stands_alone(tmp_path: Path) -> None:
    async with Bench.open(tmp_path) as bench:
        await bench.run_to(bench.end(0) + 2_000)
        delivered = bench.book.ledger.last_delivered
        assert delivered is not None
        receipt = parse_receipt(delivered.proof)
        checked = check_receipt(receipt, bench.log.entries[delivered.index], bench.agreement.policy())
        assert len(checked.cosigners) >= bench.agreement.quorum.quorum


async def test_nothing_is_delivered_without_a_quorum(tmp_path: Path) -> None:
    """SPEC node-18: fewer cosignatures than the quorum are no receipt."""
    async with Bench.open(tmp_path) as bench:
        await bench.run_to(bench.end(0) + 2_000, deliver=False)
        bench.log.cosigners = bench.people.keys.party_ids[:2]
        assert await bench.outbox.deliver_once() is False
        assert "quorum" in bench.outbox.problem or "cosignatures" in bench.outbox.problem
        assert len(bench.book.ledger.unsent) == 1
        bench.log.cosigners = bench.people.keys.party_ids[1:]
        assert await bench.outbox.deliver_once() is True
        assert bench.book.ledger.unsent == {}


class FalseClient:
    """Hands the outbox a receipt that its client should have refused."""

    def __init__(self, client: LogClient, spoil: Any) -> None:
        self._client, self._spoil = client, spoil

    async def submit(self, envelopes: Any, **more: Any) -> Any:
        return [self._spoil(item) for item in await self._client.submit(envelopes)]

    def policy_at(self, size: int) -> Any:
        return self._client.policy_at(size)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda item: WitnessedReceipt(item.index + 1, item.sequenced_at_ms, item.id, item.tlog_proof),
        lambda item: WitnessedReceipt(item.index, item.sequenced_at_ms + 1, item.id, item.tlog_proof),
        lambda item: WitnessedReceipt(item.index, item.sequenced_at_ms, bytes(32), item.tlog_proof),
        lambda item: WitnessedReceipt(item.index, item.sequenced_at_ms, item.id, b"c2sp.org/tlog-proof@v1\n"),
        lambda item: WitnessedReceipt(item.index, item.sequenced_at_ms, item.id, b""),
    ],
)
async def test_receipt_for_anything_else_does_not_count(tmp_path: Path, spoil: Any) -> None:
    """SPEC node-18: the outbox checks the receipt itself, over its own bytes."""
    async with Bench.open(tmp_path) as bench:
        await bench.run_to(bench.end(0) + 2_000, deliver=False)
        bench.outbox._sink = FalseClient(bench.client, spoil)
        assert await bench.outbox.deliver_once() is False
        assert "does not verify" in bench.outbox.problem
        assert len(bench.book.ledger.unsent) == 1


async def test_one_statement_of_the_chain_is_under_way_at_a_time(tmp_path: Path) -> None:
    """SPEC node-10: with the log out of order nothing is linked to an unacknowledged statement; then all follows."""
    async with Bench.open(tmp_path) as bench:
        await bench.run_to(bench.end(0) + 2_000)
        await bench.run_to(bench.end(2) + 2_000, deliver=False)
        assert [item.sequence for item in bench.outbox.waiting()] == [2], "though time goes by and the log ticks"
        bench.log.offline = True
        await bench.run_to(bench.end(2) + 4_000)
        assert [item.sequence for item in bench.outbox.waiting()] == [2]
        assert "out of order" in bench.outbox.problem
        bench.log.offline = False
        await bench.run_to(bench.end(3) + 2_000)
        assert bench.lab.attested == 4


async def test_refused_statement_of_the_chain_stops_the_chain_visibly(tmp_path: Path) -> None:
    """SPEC node-19: never skipped, never re-signed; the other statements go on."""
    async with Bench.open(tmp_path) as bench:
        await bench.run_to(bench.end(0) + 2_000)
        account = pb.PeriodAccount(period=7)
        link = pb.Link(sequence=2, previous=bench.book.ledger.head, as_of=bench.book.ledger.as_of)
        statement = pb.ComputeAttestation(agreement=bench.agreement.fingerprint, lab=LAB, link=link, account=account)
        bench.book.sign(ATTESTATION, statement)
        await bench.run_to(bench.end(3))
        assert "period-skipped" in bench.outbox.stopped
        assert bench.book.ledger.sequence == 2, "nothing is signed behind a refused statement"
        bench.desk.open_job(job_plan("run-1"))
        await bench.work()
        assert f"{LAB}/run-1" in bench.log.state.lineage.runs
        await bench.crash()
        bench.start()
        await bench.run_to(bench.end(4))
        assert "period-skipped" in bench.outbox.stopped, "a restart asks the log again and says so again"


async def test_refused_declaration_is_set_aside_with_its_reason(tmp_path: Path) -> None:
    async with Bench.open(tmp_path) as bench:
        await bench.read_all()
        for title in ("first", "second"):
            declaration = pb.RunDeclaration(
                agreement=bench.agreement.fingerprint,
                lab=LAB,
                run="run-1",
                title=title,
                initial_state=pb.INITIAL_STATE_FRESH,
                initial_digest=digest("x"),
            )
            bench.book.sign(DECLARATION, declaration)
        assert await bench.outbox.deliver_once() is True
        [refused] = bench.book.ledger.refusals
        assert refused.code == "run-exists"
        assert bench.book.ledger.unsent == {}


async def test_log_whose_clock_is_behind_is_asked_again(tmp_path: Path) -> None:
    """FAULTS 34: a period that is not over by log time is refused for now, and taken later."""
    async with Bench.open(tmp_path, tolerance="1 s") as bench:
        await bench.run_to(bench.end(0) + 1_000, deliver=False)
        [waiting] = bench.outbox.waiting()

        def early(response: log_pb2.SubmitResponse) -> None:
            response.Clear()
            response.results.add(refusal=log_pb2.Refusal(code=Code.PERIOD_NOT_OVER, message="period 0 is not over"))

        bench.log.spoil = early
        assert await bench.outbox.deliver_once() is False
        assert "not over" in bench.outbox.problem
        assert bench.outbox.stopped == ""
        bench.log.spoil = lambda response: None
        assert await bench.outbox.deliver_once() is True
        assert waiting.delivered is not None


async def test_outbox_loop_backs_off_within_bounds_and_recovers(tmp_path: Path) -> None:
    async with Bench.open(tmp_path) as bench:
        await bench.run_to(bench.end(0) + 2_000, deliver=False)
        bench.log.offline = True
        loop = asyncio.create_task(bench.outbox.run())
        await eventually(lambda: bench.outbox._pause_ms > 2 * FIRST_PAUSE_MS)
        assert bench.outbox._pause_ms <= LONGEST_PAUSE_MS
        bench.log.offline = False
        await eventually(lambda: not bench.book.ledger.unsent)
        assert bench.outbox.problem == ""
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


async def test_lab_whose_journal_is_older_than_the_log_signs_nothing(tmp_path: Path) -> None:
    """SPEC node-16: a journal restored from a backup would sign a sequence twice; the log shows it (FAULTS 32)."""
    async with Bench.open(tmp_path) as bench:
        journal = bench.settings.state / "journal"
        await bench.run_to(bench.end(0) + 2_000)
        shutil.copy(journal, tmp_path / "backup")
        await bench.run_to(bench.end(1) + 2_000)
        await bench.crash()
        shutil.copy(tmp_path / "backup", journal)
        bench.start()
        with pytest.raises(Refused, match="older than the log") as refused:
            await bench.read_all()
        assert refused.value.code is Code.UNSAFE_STATE
        bench.keeper.tick()
        assert bench.book.ledger.sequence == 1


async def test_lab_without_a_journal_signs_nothing_when_the_log_knows_it(tmp_path: Path) -> None:
    """SPEC node-16: a lost journal does not begin again at sequence 1."""
    async with Bench.open(tmp_path) as bench:
        await bench.run_to(bench.end(0) + 2_000)
        await bench.crash()
        (bench.settings.state / "journal").unlink()
        bench.start()
        with pytest.raises(Refused, match="older than the log"):
            await bench.read_all()
        assert bench.book.ledger.statements == {}


async def test_lab_notices_when_its_key_is_used_elsewhere(tmp_path: Path) -> None:
    """SPEC node-16: also while it runs."""
    async with Bench.open(tmp_path) as bench:
        await bench.run_to(bench.end(0) + 2_000)
        foreign = pb.RunDeclaration(
            agreement=bench.agreement.fingerprint, lab=LAB, run="stolen", initial_state=pb.INITIAL_STATE_UNSTATED
        )
        bench.log.append(envelope.encode(seal(foreign, [lab_key(bench.people)])))
        with pytest.raises(Refused, match="used elsewhere"):
            await bench.read_all()


async def test_a_pledge_of_the_labs_people_is_no_use_of_its_key_elsewhere(tmp_path: Path) -> None:
    """SPEC node-16: what the daemon never signs takes none of its slots, and is not expected in its journal."""
    async with Bench.open(tmp_path) as bench:
        await bench.run_to(bench.end(0) + 2_000)
        document = build_commitment("pause", "halt", entry={"pledges_by": "2040-01-01T00:00:00Z"})
        proposal = pb.Commitment(agreement=bench.agreement.fingerprint, proposer=LAB, document=document)
        bench.log.append(envelope.encode(seal(proposal, [lab_key(bench.people)])))
        await bench.read_all()
        assert bench.reader.problem == ""


def count_follows(bench: Bench) -> list[int]:
    """From which entry on each stream was asked for."""
    asked: list[int] = []
    real = bench.client.follow

    def follow(from_index: int = 0, **more: Any) -> AsyncIterator[VerifiedBatch]:
        asked.append(from_index)
        return real(from_index, **more)

    bench.client.follow = follow  # type: ignore[method-assign]
    return asked


async def test_reader_replays_the_log_from_its_founding_at_each_start(tmp_path: Path) -> None:
    """SPEC node-27: to the log's own state, and only from entries with a quorum's cosignatures."""
    async with Bench.open(tmp_path) as bench:
        asked = count_follows(bench)
        await bench.run_to(bench.end(0) + 2_000)
        await bench.crash()
        bench.start()
        assert bench.reader.size == 0
        await bench.read_all()
        assert bench.reader.log_ms == bench.log.state.last_time_ms
        assert bench.reader.state is not None
        assert bench.reader.state.digest() == bench.log.state.digest()
        size = bench.reader.size
        assert asked == [0, size], "the second start asked for nothing that the first had read"
        assert bench.said == []
        bench.log.cosigners = bench.log.cosigners[:2]
        bench.log.tick()
        await asyncio.sleep(0.3)
        assert (bench.reader.size, bench.reader.state.size) == (size, size)


@pytest.mark.parametrize(
    ("more", "said"),
    [(-1, "were read of it before"), (0, "not those that were read before"), (3, "its root is not that of the log's")],
)
async def test_a_log_with_another_past_than_the_one_read_before_is_not_read(
    tmp_path: Path, more: int, said: str
) -> None:
    """SPEC node-27: even if a quorum has cosigned it; whether there is a copy of the one read before or not."""
    async with Bench.open(tmp_path) as bench:
        await bench.run_to(bench.end(0) + 2_000)
        noted = bench.book.ledger.seen
        assert noted is not None
        await bench.crash()
        size = bench.reader.size
        AdmittingLog.__init__(bench.log, bench.people, bench.clock.now_ms)
        while len(bench.log.entries) < size + more:
            bench.log.tick()
        bench.start()
        await eventually(lambda: said in bench.reader.problem)
        assert not bench.reader.caught_up
        await bench.crash()
        shutil.rmtree(bench.settings.log_copy)
        bench.start()
        await eventually(lambda: "not those that were read before" in bench.reader.problem)
        assert not bench.reader.caught_up


async def test_a_damaged_copy_of_the_log_is_said_and_read_from_the_log_again(tmp_path: Path) -> None:
    """SPEC copy-3: what the gate goes by is the same."""
    async with Bench.open(tmp_path) as bench:
        asked = count_follows(bench)
        await bench.run_to(bench.end(0) + 2_000)
        await bench.crash()
        head = bench.settings.log_copy / "head"
        head.write_bytes(head.read_bytes()[:-7] + b"damaged")
        bench.start()
        await bench.read_all()
        assert asked == [0, 0]
        assert ["is damaged" in sentence for sentence in bench.said] == [True]
        assert bench.reader.state is not None
        assert bench.reader.state.digest() == bench.log.state.digest()


async def test_nothing_is_signed_before_the_log_has_been_read(tmp_path: Path) -> None:
    async with Bench.open(tmp_path) as bench:
        bench.desk.open_job(job_plan("run-1"))
        bench.clock.advance(30_000)
        bench.reader.caught_up = False
        bench.keeper.tick()
        assert bench.book.ledger.sequence == 0
        assert job_id(1) in bench.book.ledger.jobs
