"""Counting cosignatures: what is counted, what is not, when there is a quorum, whose clocks disagree."""

from __future__ import annotations

from dataclasses import replace

import pytest
from agreements import Keys, build_document
from membership_world import newcomer

from pacekeeper.log.store.port import Head
from pacekeeper.log.witnesses import Counted, Witnesses
from pacekeeper.protocol.documents.agreement import compile_agreement
from pacekeeper.protocol.documents.model import Agreement, Quorum
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.checkpoint import Checkpoint, sign_checkpoint
from pacekeeper.protocol.tlog.cosignature import sign_cosignature
from pacekeeper.protocol.tlog.note import parse_note
from pacekeeper.protocol.tlog.policy import check_checkpoint

NOW_MS = 1_800_000_000_000
PARTIES = ("norland", "sudland", "westmere", "eastholm")


class Desk:
    """Witnesses of a four-party agreement with a quorum of three, and the keys to sign for them."""

    def __init__(self) -> None:
        document, self.keys = build_document(tolerance="10 s")
        self.agreement = compile_agreement(document)
        self.policy = self.agreement.policy()
        self.witnesses = Witnesses(self.agreement)
        self.names = {party: key.name for party, key in self.policy.witnesses}

    def checkpoint(self, size: int) -> bytes:
        origin = self.agreement.origin
        return sign_checkpoint(Checkpoint(origin, size, bytes([size]) * 32), origin, self.keys.log_checkpoint)

    def propose(self, size: int) -> None:
        self.witnesses.propose(self.checkpoint(size), Head(size, bytes([size]) * 32, NOW_MS), self.agreement)

    def line(self, party: str, size: int, *, time_ms: int = NOW_MS, keys: Keys | None = None) -> bytes:
        text = parse_note(self.checkpoint(size)).text
        key = (keys or self.keys).verifier_cosign(party)
        return sign_cosignature(text, self.names[party], key, time_ms // 1000).encode()

    def count(self, party: str, size: int, signer: str | None = None, **more: object) -> Counted:
        return self.witnesses.count(party, self.line(signer or party, size, **more), NOW_MS)  # type: ignore[arg-type]


def test_a_checkpoint_is_published_with_its_quorum_and_not_before() -> None:
    """SPEC log-14: two of four do not do with a quorum of three; the note that results meets the agreement."""
    desk = Desk()
    desk.propose(5)
    for party in PARTIES[:2]:
        assert desk.count(party, 5) is Counted.CANDIDATE
    assert not desk.witnesses.has_quorum()
    assert desk.count("eastholm", 5) is Counted.CANDIDATE
    assert desk.witnesses.has_quorum()
    note = desk.witnesses.publish().note()
    assert set(check_checkpoint(note, desk.policy).cosigners) == {"norland", "sudland", "eastholm"}


def test_a_party_counts_once_and_only_on_its_own_stream() -> None:
    """SPEC log-13 (FAULTS 25): the same line again, or another party's line relayed, adds nothing."""
    desk = Desk()
    desk.propose(5)
    assert desk.count("norland", 5) is Counted.CANDIDATE
    assert desk.count("norland", 5, time_ms=NOW_MS + 1000) is Counted.NOTHING
    assert desk.count("norland", 5, signer="sudland") is Counted.NOTHING
    assert not desk.witnesses.has_quorum()
    assert desk.witnesses.candidate is not None
    assert desk.witnesses.candidate.cosigners() == {"norland"}


def test_a_cosignature_that_does_not_verify_is_not_counted() -> None:
    """SPEC log-13 (FAULTS 24): by another key under the right name, or over another checkpoint."""
    desk = Desk()
    desk.propose(5)
    assert desk.count("norland", 5, keys=Keys(desk.keys.party_ids, desk.keys.lab_ids, "others")) is Counted.NOTHING
    assert desk.count("norland", 6) is Counted.NOTHING
    with pytest.raises(Refused) as refused:
        desk.witnesses.count("norland", b"not a line\n", NOW_MS)
    assert refused.value.code is Code.BAD_NOTE
    assert desk.witnesses.candidate is not None
    assert desk.witnesses.candidate.cosignatures == {}


@pytest.mark.parametrize(("offset_ms", "counted"), [(-11_000, True), (11_000, True), (-12_000, False), (12_000, False)])
def test_a_cosignature_counts_only_at_a_time_near_the_logs_own(offset_ms: int, counted: bool) -> None:
    """SPEC log-13 (FAULTS 24): within the tolerance of 10 s, and one for the whole seconds that it is written in."""
    desk = Desk()
    desk.propose(5)
    if counted:
        assert desk.count("norland", 5, time_ms=NOW_MS + offset_ms) is Counted.CANDIDATE
        return
    with pytest.raises(Refused) as refused:
        desk.count("norland", 5, time_ms=NOW_MS + offset_ms)
    assert refused.value.code is Code.CLOCK_DISAGREES
    assert not desk.witnesses.candidate.cosignatures  # type: ignore[union-attr]


def test_a_late_cosignature_is_added_to_what_is_published_while_the_next_is_out() -> None:
    desk = Desk()
    desk.propose(5)
    for party in PARTIES[:3]:
        desk.count(party, 5)
    desk.witnesses.publish()
    desk.propose(6)
    assert desk.count("eastholm", 5) is Counted.LATE
    published = desk.witnesses.published
    assert published is not None
    assert set(check_checkpoint(published.note(), desk.policy).cosigners) == set(PARTIES)
    assert desk.count("norland", 6) is Counted.CANDIDATE
    assert {party: witness.cosigned_size for party, witness in desk.witnesses.of.items()} == {
        "norland": 6,
        "sudland": 5,
        "westmere": 5,
        "eastholm": 5,
    }


def test_a_published_note_is_taken_up_again_with_its_cosignatures() -> None:
    desk = Desk()
    desk.propose(5)
    for party in PARTIES[:3]:
        desk.count(party, 5)
    note = desk.witnesses.publish().note()
    again = Desk()
    again.witnesses.restore(note, NOW_MS, again.agreement, again.agreement)
    assert again.witnesses.published is not None
    assert again.witnesses.published.note() == note
    assert again.count("eastholm", 5) is Counted.LATE
    with pytest.raises(Refused):
        again.witnesses.restore(desk.checkpoint(5), NOW_MS, again.agreement, again.agreement)


def test_clocks_disagree_when_those_that_agree_are_no_quorum() -> None:
    """SPEC log-7: with 3 of 4, one wrong clock is borne and two are not; those not connected are not asked."""
    witnesses = Desk().witnesses
    for party in PARTIES:
        witnesses.of[party].connected = True
        witnesses.heard(party, NOW_MS, 0)
    witnesses.heard("norland", NOW_MS + 3_600_000, 0)
    assert not witnesses.clocks_disagree(NOW_MS, 0)
    witnesses.heard("sudland", NOW_MS - 10_001, 0)
    assert witnesses.clocks_disagree(NOW_MS, 0)
    witnesses.of["sudland"].connected = False
    assert not witnesses.clocks_disagree(NOW_MS, 0)


def test_a_jump_of_the_logs_own_clock_shows_before_any_verifier_speaks_again() -> None:
    """SPEC log-7 (FAULTS 35): the others' clocks are carried on by monotonic time."""
    witnesses = Desk().witnesses
    for party in PARTIES:
        witnesses.of[party].connected = True
        witnesses.heard(party, NOW_MS, 1_000)
    assert not witnesses.clocks_disagree(NOW_MS + 60_000, 61_000)
    assert witnesses.clocks_disagree(NOW_MS + 3_600_000, 1_001)
    assert witnesses.clocks_disagree(NOW_MS - 3_600_000, 1_001)


def test_more_verifiers_ahead_than_may_lie_mean_that_the_log_is_behind() -> None:
    """FAULTS 9: one liar cannot halt the log, two that agree can only be right."""
    witnesses = Desk().witnesses
    witnesses.of["norland"].ahead = True
    assert not witnesses.behind()
    witnesses.of["sudland"].ahead = True
    assert witnesses.behind()


def newcomers(desk: Desk, *parties: str, quorum: tuple[int, int]) -> Agreement:
    """The desk's agreement with these parties as well, or without those that begin with a minus."""
    kept = [party for party in desk.agreement.parties if f"-{party.id}" not in parties]
    joined = [newcomer(party) for party in parties if not party.startswith("-")]
    for party in joined:
        desk.names[party.id] = party.verifier.name
    both = (*kept, *joined)
    return replace(desk.agreement, parties=both, quorum=Quorum(len(both), *quorum))


def propose(desk: Desk, size: int, agreement: Agreement) -> None:
    desk.witnesses.advance(agreement)
    desk.witnesses.propose(desk.checkpoint(size), Head(size, bytes([size]) * 32, NOW_MS), agreement)


def test_a_change_of_the_verifiers_is_published_with_both_quorums() -> None:
    """SPEC transition-5: neither the old one nor the new one is enough; the note then meets both policies."""
    desk = Desk()
    after = newcomers(desk, "highmark", "-norland", quorum=(3, 1))
    propose(desk, 5, after)
    for party in ("highmark", "westmere", "eastholm"):
        assert desk.count(party, 5) is Counted.CANDIDATE
        assert not desk.witnesses.has_quorum()
    assert desk.count("norland", 5) is Counted.CANDIDATE
    assert desk.witnesses.has_quorum()
    published = desk.witnesses.publish()
    assert published.is_transition
    for policy in (desk.policy, after.policy()):
        check_checkpoint(published.note(), policy)


def test_a_newcomer_counts_from_its_accession_and_one_that_leaves_until_the_transition() -> None:
    """SPEC transition-8: the seats are those of the published tree, the candidate's and the head's agreement."""
    desk = Desk()
    desk.propose(4)
    witnesses = desk.witnesses
    after = newcomers(desk, "highmark", "-norland", quorum=(3, 1))
    witnesses.advance(after)
    assert set(witnesses.of) == {*PARTIES, "highmark"}
    current = witnesses.current()
    assert current is not None
    assert current.asks("norland")
    assert not current.asks("highmark"), "the tree before its accession"
    assert desk.count("highmark", 4) is Counted.NOTHING
    for party in PARTIES[:3]:
        desk.count(party, 4)
    witnesses.publish()
    propose(desk, 5, after)
    for party in ("norland", "westmere", "eastholm", "highmark"):
        assert party in witnesses.of
        desk.count(party, 5)
    witnesses.publish()
    assert set(witnesses.of) == {"sudland", "westmere", "eastholm", "highmark"}
    propose(desk, 6, after)
    assert desk.count("norland", 6) is Counted.NOTHING
    assert witnesses.candidate is not None
    assert not witnesses.candidate.is_transition


def test_a_key_that_was_replaced_is_another_cosigner_of_the_same_party() -> None:
    """Both of a party's keys are asked for, and each counts in the set that has it, once."""
    desk = Desk()
    other = newcomer("highmark").verifier
    parties = tuple(
        replace(party, verifier=replace(party.verifier, cosign_key=other.cosign_key))
        if party.id == "norland"
        else party
        for party in desk.agreement.parties
    )
    propose(desk, 5, replace(desk.agreement, parties=parties))
    candidate = desk.witnesses.candidate
    assert candidate is not None
    for party in ("sudland", "westmere"):
        desk.count(party, 5)
    assert desk.count("norland", 5) is Counted.CANDIDATE
    assert not desk.witnesses.has_quorum(), "three by the old keys, two by the new ones"
    assert candidate.asks("norland")
    desk.names["highmark"] = other.name
    assert desk.witnesses.count("norland", desk.line("highmark", 5), NOW_MS) is Counted.CANDIDATE
    assert desk.witnesses.has_quorum()
    assert not candidate.asks("norland")


def test_during_a_transition_every_quorum_is_looked_at() -> None:
    """SPEC log-7: clocks, connections and verifiers that are ahead count for each of the sets that are needed."""
    desk = Desk()
    witnesses = desk.witnesses
    propose(desk, 5, newcomers(desk, "highmark", quorum=(4, 1)))
    for party in PARTIES[:3]:
        witnesses.of[party].connected = True
        witnesses.heard(party, NOW_MS, 0)
    assert not witnesses.quorum_connected(), "three of four, and four of five are needed"
    witnesses.of["highmark"].connected = True
    witnesses.heard("highmark", NOW_MS - 60_000, 0)
    assert witnesses.quorum_connected()
    assert not witnesses.clocks_disagree(NOW_MS, 0)
    witnesses.heard("norland", NOW_MS + 60_000, 0)
    assert witnesses.clocks_disagree(NOW_MS, 0)
    witnesses.of["highmark"].ahead = True
    assert not witnesses.behind()
    witnesses.of["norland"].ahead = True
    assert witnesses.behind()


def test_a_published_transition_is_taken_up_again_with_the_cosignatures_of_both_sets() -> None:
    desk = Desk()
    after = newcomers(desk, "highmark", "-norland", quorum=(3, 1))
    propose(desk, 5, after)
    for party in ("norland", "highmark", "westmere", "eastholm"):
        desk.count(party, 5)
    note = desk.witnesses.publish().note()
    again = Desk()
    again.witnesses.restore(note, NOW_MS, after, again.agreement)
    again.witnesses.advance(after)
    assert again.witnesses.published is not None
    assert again.witnesses.published.note() == note
    assert set(again.witnesses.of) == {"sudland", "westmere", "eastholm", "highmark"}
    assert again.witnesses.of["highmark"].cosigned_size == 5
