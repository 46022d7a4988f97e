"""The daemon's key follows the log: rotation under way, keys in either file, every moment of a crash, and a thief."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
from commitments import build_commitment
from lab_bench import LAB, Bench, digest, job_plan, lab_key

from pacekeeper.client.keyfiles import create_key
from pacekeeper.node.desk import Reported
from pacekeeper.node.journal import Journal
from pacekeeper.node.records import AnyRecord, Rekeyed, Signed, SignedAgain, TurnedDown, decode_record
from pacekeeper.protocol import envelope
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.keys import SigningKey, format_public_key
from pacekeeper.protocol.statements import parse_statement, seal
from pacekeeper.protocol.units import format_time
from pacekeeper.v1 import statements_pb2 as pb


def new_key(bench: Bench, name: str = "lab.next.key") -> SigningKey:
    """A new key's file, where the configuration looks for it."""
    return create_key(bench.settings.path.parent / name)


def rotate(bench: Bench, old: SigningKey, new: SigningKey, epoch: int = 2) -> None:
    """The rotation lands on the log, whatever the daemon knows of it."""
    statement = pb.KeyRotation(
        agreement=bench.agreement.fingerprint, role=pb.KEY_ROLE_LAB, holder=LAB, epoch=epoch, key=new.public
    )
    bench.log.append(envelope.encode(seal(statement, [old, new])))
    assert bench.log.state.epochs["lab", LAB] == epoch


def replace(bench: Bench, new: SigningKey | bytes, epoch: int = 2) -> None:
    """The parties replace the lab's key at once."""
    public = new if isinstance(new, bytes) else new.public
    by = format_time(bench.clock.now_ms() + 3_600_000)
    row = {"role": "lab", "holder": LAB, "epoch": epoch, "key": format_public_key(public)}
    document = build_commitment(
        "keys", f"keys-{epoch}", entry={"parties": 3, "pledges_by": by, "delay": "0 s"}, more={"key": [row]}
    )
    fingerprint, keys = bench.agreement.fingerprint, bench.people.keys
    proposal = pb.Commitment(agreement=fingerprint, proposer="sudland", document=document)
    bench.log.append(envelope.encode(seal(proposal, [keys.party("sudland")])))
    for who in ("sudland", "westmere", "eastholm"):
        pledge = pb.Pledge(
            agreement=fingerprint,
            participant=who,
            commitment=f"keys-{epoch}",
            digest=hashlib.sha256(document).digest(),
        )
        bench.log.append(envelope.encode(seal(pledge, [keys.party(who)])))
    bench.log.tick()
    assert bench.log.state.epochs["lab", LAB] == epoch


def train(bench: Bench, period: int) -> None:
    """A job that does 5,000 gigaFLOP in a period, all told at once."""
    plan = job_plan("run-1")
    bench.desk.open_job(plan)
    bench.book.write(*bench.desk.report(plan.job, [Reported(period, 5 * 10**12, 5, 10)], closing=True))


def founding(bench: Bench) -> SigningKey:
    return lab_key(bench.people, LAB)


def signers(data: bytes) -> set[bytes]:
    return {signature.key_id for signature in envelope.parse_envelope(data).signatures}


def records(path: Path, into: Path) -> list[AnyRecord]:
    """A copy of a journal, read."""
    copy = Path(shutil.copy(path, into))
    journal = Journal(copy)
    found = [decode_record(payload) for _, payload in journal.recover()]
    journal.close()
    copy.unlink()
    return found


def payloads_by_slot(bench: Bench, into: Path) -> dict[tuple[str, int], set[bytes]]:
    """What the journal has signed for each slot, by whichever key."""
    found: dict[tuple[str, int], set[bytes]] = {}
    kinds: dict[bytes, tuple[str, int]] = {}
    for record in records(bench.settings.state / "journal", into / "copy"):
        if isinstance(record, Signed | SignedAgain):
            parsed = envelope.parse_envelope(record.envelope)
            ident = envelope.identity(envelope.pae(parsed.payload_type, parsed.payload))
            if isinstance(record, Signed):
                kinds[ident] = ("chain" if record.sequence else ident.hex(), record.sequence)
            found.setdefault(kinds[ident], set()).add(parsed.payload)
    return found


async def test_after_a_rotation_the_daemon_signs_with_the_new_key(tmp_path: Path) -> None:
    """SPEC node-35: while it runs, and after each start."""
    async with Bench.open(tmp_path) as bench:
        await bench.run_to(bench.end(0) + 2_000)
        new = new_key(bench)
        rotate(bench, founding(bench), new)
        await bench.run_to(bench.end(1) + 2_000)
        assert bench.lab.attested == 2
        assert signers(bench.log.received[-1]) == {new.key_id}
        await bench.crash()
        bench.start()
        assert bench.book.keys.key_id == new.key_id, "the journal knows before the log is read"
        await bench.run_to(bench.end(2) + 2_000)
        assert bench.lab.attested == 3
        assert bench.log.state.violations == []
        assert bench.log.state.void_count == 0
        assert bench.outbox.problem == bench.reader.succession.problem == ""


async def test_what_waits_when_the_key_is_retired_is_signed_again_and_is_the_same(tmp_path: Path) -> None:
    """SPEC node-4, SPEC node-35."""
    async with Bench.open(tmp_path) as bench:
        await bench.run_to(bench.end(0) + 2_000)
        train(bench, 1)
        await bench.run_to(bench.end(1) + 2_000, deliver=False)
        before = {item.id: item.envelope for item in bench.outbox.waiting()}
        assert len(before) >= 2
        new = new_key(bench)
        rotate(bench, founding(bench), new)
        refused = await bench.outbox.deliver_once()
        assert not refused
        assert not bench.outbox.stopped, "the log refuses the former key, and that passes"
        assert "key 1 of lab" in bench.outbox.problem
        await bench.read_all()
        after = {item.id: item.envelope for item in bench.outbox.waiting()}
        assert after.keys() == before.keys()
        for ident, data in after.items():
            assert signers(data) == {new.key_id}
            assert envelope.parse_envelope(data).payload == envelope.parse_envelope(before[ident]).payload
        await bench.work()
        assert bench.book.ledger.unsent == {}
        assert bench.lab.attested == 2
        assert all(len(payloads) == 1 for payloads in payloads_by_slot(bench, tmp_path).values())


async def test_what_the_log_has_taken_before_is_left_as_it_is(tmp_path: Path) -> None:
    """SPEC node-35: its receipt is over the bytes that the log has; signed again, it would never verify."""
    async with Bench.open(tmp_path) as bench:
        await bench.run_to(bench.end(0) + 2_000, deliver=False)
        bench.log.lose_answers = 1
        assert await bench.outbox.deliver_once() is False
        [waiting] = bench.outbox.waiting()
        rotate(bench, founding(bench), new_key(bench))
        for restart in (False, True):
            if restart:
                await bench.crash()
                bench.start()
            await bench.read_all()
            assert [item.envelope for item in bench.outbox.waiting()] == [waiting.envelope]
        assert await bench.outbox.deliver_once() is True
        assert bench.book.ledger.unsent == {}
        assert bench.lab.attested == 1


async def test_a_crash_between_the_new_key_and_what_is_signed_again_loses_nothing(tmp_path: Path) -> None:
    """SPEC node-35: with the journal cut after each record that a rotation leaves in it."""
    async with Bench.open(tmp_path) as bench:
        await bench.run_to(bench.end(0) + 2_000)
        train(bench, 1)
        await bench.run_to(bench.end(1) + 2_000, deliver=False)
        await bench.crash()
        journal = bench.settings.state / "journal"
        before = journal.read_bytes()
        new = new_key(bench)
        rotate(bench, founding(bench), new)
        bench.start()
        await bench.read_all()
        await bench.crash()
        whole = journal.read_bytes()
        added = records(journal, tmp_path / "copy")
        tail = [record for record in added if isinstance(record, Rekeyed | SignedAgain)]
        assert [type(record) for record in tail] == [Rekeyed, SignedAgain, SignedAgain]
        for cut in range(len(before), len(whole) + 1, max(1, (len(whole) - len(before)) // 12)):
            journal.write_bytes(whole[:cut])
            bench.start()
            await bench.read_all()
            assert {ident for item in bench.outbox.waiting() for ident in signers(item.envelope)} == {new.key_id}
            assert all(len(payloads) == 1 for payloads in payloads_by_slot(bench, tmp_path).values())
            await bench.crash()
        bench.start()
        await bench.read_all()
        await bench.work()
        assert bench.lab.attested == 2


@pytest.mark.parametrize("moved", [False, True])
async def test_the_key_in_force_is_found_in_either_file(tmp_path: Path, moved: bool) -> None:
    """SPEC node-35: from the first start on, also where the former key's file is gone."""
    async with Bench.open(tmp_path) as bench:
        await bench.run_to(bench.end(0) + 2_000)
        await bench.crash()
        new = new_key(bench)
        rotate(bench, founding(bench), new)
        if moved:
            bench.settings.key.unlink()
            assert bench.settings.next_key is not None
            bench.settings.next_key.rename(bench.settings.key)
        bench.start()
        await bench.run_to(bench.end(1) + 2_000)
        assert bench.lab.attested == 2
        assert bench.log.state.void_count == 0


async def test_a_lab_whose_key_was_replaced_goes_on_counting_and_waits_for_the_new_key(tmp_path: Path) -> None:
    """SPEC node-35: nothing is lost meanwhile, and its key file may come while the daemon runs."""
    async with Bench.open(tmp_path) as bench:
        await bench.run_to(bench.end(0) + 2_000)
        elsewhere = create_key(tmp_path / "elsewhere.key")
        replace(bench, elsewhere)
        await bench.run_to(bench.end(1) + 3_000)
        assert bench.lab.attested == 1
        assert "is its number 2, and no key file holds it" in bench.reader.succession.problem
        assert not bench.outbox.stopped
        assert bench.settings.next_key is not None
        bench.settings.next_key.write_bytes((tmp_path / "elsewhere.key").read_bytes())
        bench.settings.next_key.chmod(0o644)
        await bench.work()
        assert "open to others" in bench.reader.succession.problem
        bench.settings.next_key.chmod(0o600)
        await bench.work()
        await bench.work()
        assert bench.reader.succession.problem == ""
        assert bench.lab.attested == 2
        assert bench.log.state.violations == []


async def test_a_wrong_key_from_the_beginning_is_unsafe(tmp_path: Path) -> None:
    """SPEC node-35."""
    async with Bench.open(tmp_path) as bench:
        await bench.crash()
        shutil.rmtree(bench.settings.state)
        bench.settings.key.unlink()
        create_key(bench.settings.key)
        bench.start()
        with pytest.raises(Refused, match="no key file holds the key of lab borealis"):
            await bench.read_all()
        await bench.crash()


async def test_a_wrong_key_is_put_right_and_what_it_signed_is_signed_again(tmp_path: Path) -> None:
    """SPEC node-35: nothing that it signed has left, since the log had not been read."""
    async with Bench.open(tmp_path) as bench:
        await bench.crash()
        shutil.rmtree(bench.settings.state)
        kept = bench.settings.key.read_bytes()
        bench.settings.key.unlink()
        create_key(bench.settings.key)
        bench.start()
        bench.desk.declare(job_plan("run-1").plan)
        await bench.crash()
        bench.settings.key.write_bytes(kept)
        bench.start()
        await bench.read_all()
        assert [signers(item.envelope) for item in bench.outbox.waiting()] == [{founding(bench).key_id}]
        await bench.work()
        assert "run-1" in bench.lab.runs


async def test_the_new_key_used_elsewhere_is_found_out_too(tmp_path: Path) -> None:
    """SPEC node-16: whichever of the lab's keys is in force, what it signs and the journal has not is unsafe."""
    async with Bench.open(tmp_path) as bench:
        await bench.run_to(bench.end(0) + 2_000)
        new = new_key(bench)
        rotate(bench, founding(bench), new)
        await bench.run_to(bench.end(1) + 2_000)
        elsewhere = pb.RunDeclaration(
            agreement=bench.agreement.fingerprint,
            lab=LAB,
            run="elsewhere",
            initial_state=pb.INITIAL_STATE_FRESH,
            initial_digest=digest("elsewhere"),
        )
        bench.log.append(envelope.encode(seal(elsewhere, [new])))
        with pytest.raises(Refused, match="is not in the journal"):
            await bench.read_all()
        await bench.crash()
        bench.start()
        with pytest.raises(Refused, match="is not in the journal"):
            await bench.read_all()


def stolen_statements(bench: Bench, thief: SigningKey) -> list[Any]:
    """An account of the period that the lab is about to account for, a run, and a gap after it."""
    fingerprint = bench.agreement.fingerprint
    account = pb.PeriodAccount(
        period=1,
        time=[pb.CategoryTime(category=pb.CATEGORY_IDLE, chip_ms=8 * bench.agreement.calendar.period_ms)],
        pools=[pb.AcceleratorPool(model="test-chip", count=8, peak_gflop_per_s=1)],
    )
    attestation = pb.ComputeAttestation(
        agreement=fingerprint,
        lab=LAB,
        link=pb.Link(sequence=2, previous=bench.lab.head, as_of=bench.lab.as_of),
        account=account,
    )
    first = seal(attestation, [thief])
    gap = pb.Gap(
        agreement=fingerprint,
        lab=LAB,
        link=pb.Link(
            sequence=3,
            previous=envelope.identity(envelope.pae(first.payload_type, first.payload)),
            as_of=bench.lab.as_of,
        ),
        first_period=2,
        last_period=2,
        reason=pb.GAP_REASON_UNACCOUNTED,
    )
    run = pb.RunDeclaration(
        agreement=fingerprint,
        lab=LAB,
        run="thiefs",
        initial_state=pb.INITIAL_STATE_FRESH,
        initial_digest=digest("thiefs"),
    )
    return [first, seal(run, [thief]), seal(gap, [thief])]


async def test_what_a_thief_signed_before_is_adopted_and_corrected_and_later_is_void(tmp_path: Path) -> None:
    """SPEC node-16, SPEC node-36: unsafe until the parties have replaced the key; then the chain goes on, openly."""
    async with Bench.open(tmp_path, period="10 s") as bench:
        await bench.run_to(bench.end(0) + 4_000)
        assert bench.lab.sequence == 1
        train(bench, 1)
        await bench.run_to(bench.end(1) + 4_000, deliver=False)
        assert [item.sequence for item in bench.outbox.waiting() if item.sequence] == [2]
        own = next(item.id for item in bench.outbox.waiting() if item.sequence)
        thief = founding(bench)
        await bench.crash()
        bench.pass_unwatched(bench.end(2) + 1_000 - bench.clock.now_ms())
        for data in stolen_statements(bench, thief):
            bench.log.append(envelope.encode(data))
        bench.start()
        with pytest.raises(Refused, match="have the parties replace it"):
            await bench.read_all()
        await bench.crash()
        replace(bench, new_key(bench))
        late = pb.RunDeclaration(
            agreement=bench.agreement.fingerprint,
            lab=LAB,
            run="late",
            initial_state=pb.INITIAL_STATE_FRESH,
            initial_digest=digest("late"),
        )
        with pytest.raises(Refused) as refused:
            bench.log.append(envelope.encode(seal(late, [thief])))
        assert refused.value.code == Code.KEY_RETIRED
        for restart in range(3):
            bench.start()
            await bench.read_all()
            assert bench.book.ledger.sequence == 3, restart
            assert bench.book.ledger.statements[own].turned_down is not None
            if restart < 2:
                await bench.crash()
        await bench.run_to(bench.end(3) + 6_000)
        state = bench.log.state
        assert state.void_count == 0
        assert bench.lab.sequence > 3
        assert bench.lab.gaps == set(), "the thief's gap was filled in"
        account = bench.lab.accounts[1]
        assert (account.figures[0][0], account.figures[0][1]) == ("run-1", 5_000), "its account was corrected"
        assert bench.lab.next_period == 4
        turned = [r for r in records(bench.settings.state / "journal", tmp_path / "copy") if isinstance(r, TurnedDown)]
        assert turned == [], "what a fold derives is no record"
        assert parse_statement(envelope.parse_envelope(bench.log.received[-1])) is not None
