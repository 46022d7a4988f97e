"""Acts on the log: who joins and who leaves, performed by the replay, and what they then may and must do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from membership_world import MembershipWorld, new_lab, newcomer

from pacekeeper.protocol.documents.checks import first_fault
from pacekeeper.protocol.errors import Code
from pacekeeper.protocol.evidence import recheck
from pacekeeper.protocol.keys import verify
from pacekeeper.protocol.replay import Applied, ViolationKind, Void
from pacekeeper.v1 import statements_pb2 as pb


def code_of(outcome: Applied | Void) -> Code:
    assert isinstance(outcome, Void), outcome
    return outcome.code


def test_an_accession_gives_party_verifier_and_lab_their_place() -> None:
    """SPEC commitments-48: at once their say, and accounts from the next period on and not for what was before."""
    world = MembershipWorld()
    document = world.accession(parties=[newcomer("highmark")], labs=[new_lab("zephyr", "highmark")], quorum=(4, 1))
    at = world.perform(document, world.start(1) + 5_000)
    agreement = world.state.agreement
    assert [party.id for party in agreement.parties][-1] == "highmark"
    assert (agreement.quorum.verifiers, agreement.quorum.quorum) == (5, 4)
    assert len(agreement.policy().witnesses) == 5
    assert agreement.fingerprint == world.agreement.fingerprint
    assert world.state.members.labs["zephyr"] == "highmark"
    assert (world.state.labs["zephyr"].next_period, world.state.labs["zephyr"].due_period) == (2, 2)
    world.join_chain("zephyr")
    for lab in ("borealis", "meridian"):
        world.account_for(lab, 1)
    assert code_of(world.attest("zephyr", 1, {}, at=world.state.last_time_ms)) is Code.PERIOD_TAKEN
    world.account_for("zephyr", 2)
    assert isinstance(
        world.propose(world.exit("highmark", quorum=(3, 1)), world.state.last_time_ms, "highmark"), Applied
    )
    assert at < world.start(2)
    world.to(world.due(3))
    assert {(v.kind, v.subject, v.period) for v in world.state.violations if v.subject == "zephyr"} == {
        (ViolationKind.PERIOD_MISSING, "zephyr", 3)
    }
    world.proved()


def test_an_exit_takes_the_partys_say_and_leaves_its_labs_what_they_owe() -> None:
    """SPEC commitments-49."""
    world = MembershipWorld()
    world.account_for("meridian", 0)
    at = world.perform(world.exit("sudland", quorum=(2, 0)), world.start(1) + 5_000)
    state = world.state
    assert "sudland" not in {party.id for party in state.agreement.parties}
    assert "meridian" not in state.members.labs
    assert {authority.owner for authority in state.keyring.values()}.isdisjoint({"sudland"})
    late = world.exit("eastholm", quorum=(2, 0))
    assert code_of(world.propose(late, at, "sudland")) is Code.UNKNOWN_SIGNER
    assert code_of(world.propose(late, at, "meridian")) is Code.UNKNOWN_PARTICIPANT
    world.account_for("meridian", 1)
    world.to(world.end(2))
    assert code_of(world.attest("meridian", 2, {}, at=world.end(2))) is Code.NOT_OWED
    assert code_of(world.gap("meridian", 2, 2, at=world.end(2))) is Code.NOT_OWED
    closes = world.agreement.fill_in_ms(1)
    world.to(closes)
    assert code_of(world.gap("meridian", 2, 2, at=closes)) is Code.NOT_OWED, (
        "the last moment at which it is still known"
    )
    world.to(closes + 1)
    assert code_of(world.gap("meridian", 2, 2, at=closes + 1)) is Code.UNKNOWN_SIGNER
    world.to(world.due(5))
    assert [v.period for v in state.violations if v.subject == "meridian"] == []
    world.proved()


@pytest.mark.parametrize("raced", ["exit", "accession", "amendment"])
def test_an_act_that_another_has_overtaken_is_not_performed(raced: str) -> None:
    """SPEC commitments-46: it has no effect, and its time line says so."""
    world = MembershipWorld()
    first, second = {
        "exit": (world.exit("eastholm", "one", (2, 0)), world.exit("eastholm", "two", (2, 0))),
        "accession": (
            world.accession("one", labs=[new_lab("zephyr", "norland")]),
            world.accession("two", labs=[new_lab("zephyr", "norland")]),
        ),
        "amendment": (world.exit("eastholm", "one", (2, 0)), world.amendment("two", quorum={"quorum": 4, "liars": 0})),
    }[raced]
    at = world.start(1) + 5_000
    world.agree(first, at)
    world.agree(second, at)
    world.to(at + 10_000)
    assert world.story("one")[-1] == "performed"
    assert world.story("two")[-2:] == ["performed", "not-performed"]
    assert world.state.agreement.quorum.quorum == (3 if raced == "accession" else 2)
    world.proved()


def test_an_amended_quorum_is_in_force_from_that_entry_on() -> None:
    """SPEC commitments-50: and one that could not have been founded is refused when it is proposed."""
    world = MembershipWorld()
    at = world.start(1)
    world.to(at)
    bad = world.amendment("bad", quorum={"quorum": 2, "liars": 1})
    assert code_of(world.propose(bad, at)) is Code.BAD_COMMITMENT
    slow = world.amendment("slow", timing={"tick": "60 s", "tolerance": "1 s", "unwitnessed": "1 h"})
    assert code_of(world.propose(slow, at)) is Code.BAD_COMMITMENT, "two ticks must fit into due"
    world.perform(world.amendment(quorum={"quorum": 4, "liars": 0}), at)
    assert (world.state.agreement.quorum.quorum, world.agreement.quorum.quorum) == (4, 3)
    world.proved()


def test_nobody_accedes_under_the_id_or_the_key_of_one_that_has_left() -> None:
    """SPEC commitments-47."""
    world = MembershipWorld()
    at = world.perform(world.exit("eastholm", quorum=(2, 0)), world.start(1))
    again = world.accession("again", parties=[newcomer("eastholm")], quorum=(3, 1))
    assert code_of(world.propose(again, at)) is Code.BAD_COMMITMENT
    same_key = world.accession("again", parties=[newcomer("highmark", key="/party/eastholm")], quorum=(3, 1))
    assert code_of(world.propose(same_key, at)) is Code.BAD_COMMITMENT
    fresh = world.accession("again", parties=[newcomer("highmark")], quorum=(3, 1))
    assert isinstance(world.propose(fresh, at), Applied)
    world.proved()


def test_who_has_left_answers_for_what_its_key_signed() -> None:
    """SPEC commitments-55: evidence against a lab holds after its exit, or leaving would be an acquittal."""
    world = MembershipWorld()
    world.account_for("meridian", 0)
    first = world.state.labs["meridian"].last_index
    other = pb.Gap(
        agreement=world.agreement.fingerprint,
        lab="meridian",
        link=pb.Link(sequence=1, as_of=0),
        first_period=0,
        last_period=0,
        reason=pb.GAP_REASON_LATE,
    )
    second = world.seal(other, world.keys.lab("meridian"))
    evidence = pb.Evidence(lab_equivocation=pb.LabEquivocationEvidence(first_index=first, second=second))

    def holds() -> bool:
        return recheck(evidence, world.state, entry_at=world.entries.__getitem__, verify=verify).holds

    assert holds()
    world.perform(world.exit("sudland", quorum=(2, 0)), world.start(1) + 5_000)
    world.to(world.agreement.fill_in_ms(1) + 1)
    assert world.keys.lab("meridian").key_id not in world.state.keyring
    assert holds()


def test_an_earlier_version_of_the_rules_performs_nothing() -> None:
    """SPEC commitments-42: what version 2 refuses it refuses for ever, and its states have no terms in them."""
    world = MembershipWorld(rules=2)
    at = world.start(1)
    world.to(at)
    for document in (
        world.exit("eastholm", quorum=(2, 0)),
        world.amendment(margins={"framework-count": "1 %"}),
        world.accession(labs=[new_lab("zephyr", "norland")]),
    ):
        assert code_of(world.propose(document, at)) is Code.BAD_COMMITMENT
    assert "terms" not in world.state.describe()


def bound_by(world: MembershipWorld, at: int, **withdrawal: object) -> None:
    """Eastholm and norland are bound by a pause, in force 10 s later."""
    document = world.act(
        "pause", "halt", entry={"parties": 2}, withdrawal={"before_entry": "allowed", "cut_off": "1 s", **withdrawal}
    )
    world.agree(document, at, ("norland", "eastholm"))
    world.to(at + 10_000)


def test_an_exit_is_no_quicker_way_out_of_a_commitment_than_its_withdrawal() -> None:
    """SPEC commitments-57: the exit is the notice, and too short a delay is refused at once, or at its time."""
    world = MembershipWorld()
    at = world.start(0) + 10_000
    bound_by(world, at, notice="50 s")
    at += 10_000
    quick = world.exit("eastholm", "quick", (2, 0), own=True)
    assert code_of(world.propose(quick, at, "eastholm")) is Code.BAD_COMMITMENT
    slow = world.exit("eastholm", "slow", (2, 0), own=True, delay="50 s")
    world.agree(slow, at, ("eastholm",))
    world.to(at + 50_000 - 1)
    assert "eastholm" in world.state.members.parties
    world.to(at + 50_000)
    assert "eastholm" not in world.state.members.parties
    assert world.story("halt")[-1] == "collapse"
    world.proved()


def test_who_promised_not_to_leave_does_not_leave_by_an_exit() -> None:
    """SPEC commitments-57: unless the others decide that it goes."""
    world = MembershipWorld()
    at = world.start(0) + 10_000
    bound_by(world, at, notice=None)
    at += 10_000
    assert (
        code_of(world.propose(world.exit("eastholm", "own", (2, 0), own=True), at, "eastholm")) is Code.BAD_COMMITMENT
    )
    world.perform(world.exit("eastholm", "others", (2, 0)), at)
    assert "eastholm" not in world.state.members.parties


def test_what_a_party_binds_itself_to_after_its_notice_holds_it_too() -> None:
    """SPEC commitments-57, SPEC commitments-46: judged again when the exit would be done."""
    world = MembershipWorld()
    at = world.start(0) + 10_000
    world.agree(world.exit("eastholm", "own", (2, 0), own=True, delay="40 s"), at, ("eastholm",))
    bound_by(world, at + 5_000, notice="60 s")
    world.to(at + 40_000)
    assert world.story("own")[-1] == "not-performed"
    assert "eastholm" in world.state.members.parties
    world.proved()


def test_what_a_lab_did_under_a_pause_is_judged_after_its_exit() -> None:
    """SPEC commitments-49, SPEC conduct-1: the account comes when its party has left, and still convicts."""
    world = MembershipWorld()
    world.declare("meridian", "run-1", at=world.start(0))
    at = world.start(0) + 5_000
    pause = world.act(
        "pause",
        "halt",
        entry={"parties": 2},
        pause={"above": "5e11 FLOP", "wind_down": "1 s"},
        withdrawal={"before_entry": "allowed", "cut_off": "1 s", "notice": "1 s"},
    )
    world.agree(pause, at, ("norland", "sudland"))
    world.to(world.start(2) - 20_000)
    world.perform(world.exit("sudland", quorum=(2, 0)), world.start(2) - 20_000, ("norland", "westmere", "eastholm"))
    assert "sudland" not in world.state.commitments.standing("halt").bound
    for period in (0, 1):
        world.to(max(world.end(period), world.state.last_time_ms))
        account = world.account(period, {"run-1": 0})
        account.figures.pop()
        figures = [(part, amount) for part, amount in (((0, 300), (1, 300)) if period == 0 else ((0, 40), (1, 40)))]
        for part, amount in figures:
            estimate = pb.Estimate(method=pb.METHOD_FRAMEWORK_COUNT, amount=amount)
            account.figures.append(pb.RunFigure(run="run-1", steps=1, chip_ms=10, part=part, estimates=[estimate]))
        account.time[0].chip_ms, account.time[1].chip_ms = 20, 8 * 100_000 - 20
        account.splits_ms.append(16_000 if period == 0 else 90_000)
        statement = pb.ComputeAttestation(
            agreement=world.agreement.fingerprint, lab="meridian", link=world.link("meridian"), account=account
        )
        assert isinstance(world.put_chain("meridian", statement, world.state.last_time_ms), Applied)
    found = [(v.kind, v.period) for v in world.state.violations if v.subject == "meridian"]
    assert found == [(ViolationKind.PAUSE, 0), (ViolationKind.PAUSE, 1)]
    world.proved()


def test_clean_periods_of_a_newcomer_count_from_its_first() -> None:
    """SPEC commitments-48: not from the founding, when nobody could have seen it."""
    world = MembershipWorld()
    for lab in ("borealis", "meridian"):
        world.account_for(lab, 2)
    document = world.accession(parties=[newcomer("highmark")], labs=[new_lab("zephyr", "highmark")], quorum=(4, 1))
    world.perform(document, world.state.last_time_ms + 5_000)
    world.join_chain("zephyr")
    for lab in ("borealis", "meridian", "zephyr"):
        world.account_for(lab, 4)
    world.to(world.due(4))
    clean = world.state.clean_periods
    assert [clean(who) for who in ("norland", "borealis", "highmark", "zephyr")] == [5, 5, 1, 1]


def test_whoever_acceded_counts_in_no_earlier_commitment() -> None:
    """SPEC commitments-17: it can join a pause that was proposed before, and is nobody's missing pledge."""
    world = MembershipWorld()
    at = world.start(0) + 5_000
    pause = world.act("pause", "halt", entry={"parties": 4})
    world.to(at)
    assert isinstance(world.propose(pause, at), Applied)
    document = world.accession(parties=[newcomer("highmark")], labs=[new_lab("zephyr", "highmark")], quorum=(4, 1))
    at = world.perform(document, at)
    for who in ("norland", "sudland", "westmere", "highmark"):
        assert isinstance(world.pledge(pause, who, at), Applied)
    assert world.state.commitments.standing("halt").phase == "open"
    assert isinstance(world.pledge(pause, "eastholm", at), Applied)
    assert "highmark" in world.state.commitments.standing("halt").bound
    world.to(at + 30_000)
    assert world.state.commitments.constraints_on("zephyr", at + 40_000_000).holds
    world.proved()


def test_limits_hold_of_what_documents_come_to_together() -> None:
    """SPEC commitments-50, SPEC documents-23: 32 parties, 256 labs and 64 caps, however many acts it took."""
    agreement = MembershipWorld().agreement
    assert first_fault(agreement) is None
    lab, cap = agreement.labs[0], agreement.caps[0]
    labs = [replace(lab, id=f"l{n}", key=bytes([n]) * 32, tls_spki=bytes([n]) * 32) for n in range(1, 256)]
    assert first_fault(replace(agreement, labs=(*labs, lab))) is None
    for changed in (
        replace(agreement, labs=(*labs, *agreement.labs)),
        replace(agreement, caps=tuple(replace(cap, id=f"c{n}") for n in range(65))),
        replace(agreement, parties=tuple(newcomer(f"p{n}") for n in range(33))),
    ):
        fault = first_fault(changed)
        assert fault is not None
        assert "more than" in fault.message


def test_the_last_moment_of_what_is_owed_is_the_same_after_a_silence() -> None:
    """SPEC commitments-49, SPEC replay-4: a silence moves the end of a period and the end of a key alike."""
    world = MembershipWorld()
    world.account_for("meridian", 0)
    world.perform(world.exit("sudland", quorum=(2, 0)), world.start(1) + 5_000)
    world.account_for("meridian", 1)
    closes = world.agreement.fill_in_ms(1)
    world.to(closes - 100_000)
    world.tick(closes - 30_000)
    last = closes + 40_000
    world.to(last)
    assert code_of(world.gap("meridian", 2, 2, at=last)) is Code.NOT_OWED
    assert code_of(world.gap("meridian", 2, 2, at=last + 1)) is Code.UNKNOWN_SIGNER
    world.proved()
