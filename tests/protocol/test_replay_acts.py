"""Acts on the log: who joins and who leaves, performed by the replay, and what they then may and must do."""

from __future__ import annotations

import pytest
from membership_world import MembershipWorld, new_lab, newcomer

from pacekeeper.protocol.errors import Code
from pacekeeper.protocol.replay import Applied, ViolationKind, Void


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
