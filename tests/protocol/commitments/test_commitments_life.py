"""One commitment's life: pledges, entry, joining, leaving, lifting and ending, told as short stories."""

from __future__ import annotations

import dataclasses

import pytest
from commitments import MEMBERS, Play, build_commitment, compiled, pledge_if

from pacekeeper.protocol.errors import Code, Refused


def in_force(document: bytes | None = None, *who: str) -> Play:
    """A pause that norland and sudland pledged on day 1, and that entered into force on day 11."""
    return Play(document or build_commitment()).at("1 d").pledge(*(who or ("norland", "sudland"))).at("11 d")


def test_a_pause_comes_into_force_with_the_last_needed_pledge_and_the_delay() -> None:
    """SPEC commitments-19: not before the delay."""
    play = Play(build_commitment()).at("1 d").pledge("norland")
    assert play.phase == "open"
    play.at("2 d").pledge("sudland")
    assert play.phase == "pending"
    play.player.advance(play.now_ms + 10 * 86_400_000 - 1)
    assert play.phase == "pending"
    assert play.at("12 d").phase == "in-force"
    assert [line.split(" ", 1)[1] for line in play.story()] == [
        "proposed norland open",
        "pledged norland open",
        "pledged sudland open",
        "rule-met pending",
        "delay-over armed",
        "trigger-on in-force",
    ]


def test_an_effective_date_holds_back_what_is_ready_early() -> None:
    """SPEC commitments-19: nor before its effective date."""
    document = build_commitment(entry={"effective": "2026-03-15T00:00:00Z"})
    play = in_force(document)
    assert play.at("72 d").phase == "pending"
    assert play.at("73 d").phase == "in-force"


def test_a_rule_not_met_by_the_deadline_fails_and_later_pledges_are_refused() -> None:
    """SPEC commitments-36."""
    play = Play(build_commitment()).at("1 d").pledge("norland").at("59 d")
    assert play.phase == "failed"
    play.pledge("sudland")
    assert (play.codes, play.phase) == (["pledge-too-late"], "failed")


def test_pledges_that_do_not_bind_expire_at_the_deadline() -> None:
    """SPEC commitments-36."""
    play = Play(build_commitment()).at("1 d").pledge("westmere", when=pledge_if(parties=4)).pledge("norland", "sudland")
    assert play.bound == {"norland", "sudland"}
    play.at("59 d")
    assert set(play.standing.pledges) == {"norland", "sudland"}
    play.pledge("eastholm", "westmere")
    assert play.bound == {"norland", "sudland", "eastholm", "westmere"}


def test_one_that_is_not_in_force_by_its_lapse_date_fails() -> None:
    """SPEC commitments-19."""
    document = build_commitment(entry={"delay": "1 d", "lapses": "2026-03-02T00:00:00Z"})
    assert Play(document).at("58 d").pledge("norland", "sudland").at("59 d").phase == "in-force"
    late = build_commitment(
        entry={"delay": "1 d", "lapses": "2026-03-05T00:00:00Z"}, term={"expires": "2026-03-06T00:00:00Z"}
    )
    play = Play(late).at("58 d").pledge("norland", "sudland").at("70 d")
    assert (play.phase, play.standing.how_ended) == ("ended", "expired")


def test_conditional_pledges_wait_for_each_other_and_bind_together() -> None:
    """SPEC commitments-17: the greatest fixed point."""
    play = Play(build_commitment()).at("1 d")
    play.pledge("norland", when=pledge_if(named={"sudland"})).pledge("westmere", when=pledge_if(parties=3))
    assert play.phase == "open"
    play.pledge("sudland", when=pledge_if(named={"norland"}))
    assert (play.phase, play.bound) == ("pending", {"norland", "sudland", "westmere"})


def test_clean_periods_are_asked_of_each_pledger_once() -> None:
    """SPEC commitments-30."""
    play = Play(build_commitment(entry={"clean_periods": 3})).clean("norland", 3).clean("sudland", 2)
    play.at("1 d").pledge("norland", "sudland")
    assert play.phase == "open"
    play.clean("sudland", 3).at("2 d").pledge("westmere")
    assert (play.phase, play.bound) == ("pending", {"norland", "sudland"})
    play.clean("norland", 0).at("20 d")
    assert play.bound == {"norland", "sudland"}
    play.at("60 d").pledge("eastholm")
    assert play.codes == ["not-clean"]


def test_later_joiners_are_bound_after_the_delay_and_not_for_the_past() -> None:
    """SPEC commitments-21."""
    play = in_force().at("20 d").pledge("westmere")
    assert play.constraints("zephyr").holds == ()
    assert play.constraints("zephyr", "30 d").holds != ()
    assert play.constraints("borealis").holds != ()
    early = Play(build_commitment()).at("1 d").pledge("norland", "sudland").at("2 d").pledge("westmere").at("12 d")
    assert early.constraints("zephyr").holds != ()
    assert early.registry.boundaries("zephyr", 0, early.now_ms + 1)[0] == early.now_ms


def test_a_late_joiner_waits_for_nobody() -> None:
    """SPEC commitments-34."""
    play = in_force().at("60 d").pledge("westmere", when=pledge_if(parties=4))
    assert play.codes == ["condition-not-met"]
    play.pledge("westmere", when=pledge_if(parties=3))
    assert "westmere" in play.bound


def test_who_acceded_later_can_join_and_counts_in_nobodys_arithmetic() -> None:
    """SPEC commitments-9, SPEC commitments-17: the roll was frozen at the proposal."""
    play = Play(build_commitment(entry={"parties": 3})).at("1 d").pledge("norland", "sudland")
    members = dataclasses.replace(
        MEMBERS, parties=MEMBERS.parties | {"farland"}, labs={**MEMBERS.labs, "corona": "farland"}
    )
    play.registry.set_members(members, 9, play.now_ms)
    play.pledge("farland")
    assert (play.phase, play.codes) == ("open", [])
    play.pledge("westmere").at("30 d")
    assert play.bound == {"norland", "sudland", "farland", "westmere"}
    assert play.constraints("corona").holds != ()


def test_who_leaves_the_agreement_leaves_its_commitments() -> None:
    play = in_force()
    members = dataclasses.replace(MEMBERS, parties=MEMBERS.parties - {"sudland"})
    play.registry.set_members(members, 9, play.now_ms)
    assert (play.phase, play.standing.how_ended) == ("ended", "lapsed")


def test_withdrawal_before_entry_is_immediate_until_the_cut_off() -> None:
    """SPEC commitments-25."""
    play = Play(build_commitment()).at("1 d").pledge("norland", "sudland", "westmere").at("9 d").withdraw("westmere")
    assert play.bound == {"norland", "sudland"}
    play.at("10 d").withdraw("sudland")
    assert play.bound == {"norland", "sudland"}
    assert play.standing.leaving.keys() == {"sudland"}
    assert play.at("39 d").phase == "in-force"
    assert play.at("40 d").phase == "ended"


def test_a_collapse_before_entry_fails_the_commitment() -> None:
    """SPEC commitments-18: a pending one fails."""
    play = Play(build_commitment(term={"length": "365 d", "requires": "anyone"})).at("1 d").pledge("norland", "sudland")
    assert play.at("2 d").withdraw("sudland").phase == "failed"


def test_withdrawal_after_entry_takes_its_notice_and_obligations_stay_until_then() -> None:
    """SPEC commitments-25."""
    play = in_force(None, "norland", "sudland", "westmere").at("20 d").withdraw("westmere")
    assert play.at("49 d").constraints("zephyr").holds != ()
    play.withdraw("westmere")
    assert play.codes == ["notice-given"]
    assert play.at("50 d").constraints("zephyr").holds == ()
    assert play.phase == "in-force"


def test_a_withdrawal_takes_those_along_whose_condition_it_was() -> None:
    """SPEC commitments-18: the fixed point is taken again, and the rest may lapse."""
    play = Play(build_commitment()).at("1 d").pledge("westmere", when=pledge_if(named={"norland"}))
    play.pledge("norland", "sudland", "eastholm").at("12 d").withdraw("norland").at("42 d")
    assert play.bound == {"sudland", "eastholm"}
    assert play.phase == "in-force"
    play.withdraw("eastholm").at("72 d")
    assert (play.phase, play.standing.how_ended) == ("ended", "lapsed")


def test_one_that_requires_anyone_lasts_until_the_last_has_left() -> None:
    """SPEC commitments-18."""
    play = in_force(build_commitment(term={"length": "365 d", "requires": "anyone"})).withdraw("norland").at("41 d")
    assert play.phase == "in-force"
    assert play.withdraw("sudland").at("71 d").phase == "ended"


def test_what_bars_a_withdrawal() -> None:
    """SPEC commitments-25."""
    play = in_force(build_commitment(withdrawal={"notice": None})).withdraw("norland", "eastholm")
    assert play.codes == ["withdrawal-barred", "not-pledged"]
    play = in_force(build_commitment(withdrawal={"not_before": "100 d"})).withdraw("norland")
    assert play.codes == ["withdrawal-barred"]
    assert play.at("111 d").withdraw("norland").codes == ["withdrawal-barred"]
    play = in_force(build_commitment(withdrawal={"reason": "required"})).withdraw("norland")
    assert play.codes == ["reason-missing"]
    play.withdraw("norland", reason="extraordinary events")
    assert play.standing.leaving != {}
    play = Play(build_commitment(withdrawal={"before_entry": "none"})).at("1 d").pledge("norland").withdraw("norland")
    assert play.codes == ["withdrawal-barred"]


def test_a_withdrawal_can_end_it_for_everyone() -> None:
    """SPEC commitments-18: as in the Fur Seal Convention."""
    play = in_force(build_commitment(withdrawal={"ends": "all"}), "norland", "sudland", "westmere").withdraw("westmere")
    assert play.at("40 d").phase == "in-force"
    assert play.at("41 d").phase == "ended"


def test_no_withdrawal_takes_effect_before_the_minimum_term() -> None:
    """SPEC commitments-25."""
    play = in_force(build_commitment(term={"length": "365 d", "minimum": "200 d"})).withdraw("norland")
    assert play.at("210 d").phase == "in-force"
    assert play.at("211 d").phase == "ended"


def test_a_withdrawal_that_races_the_entry_is_decided_by_the_order_of_the_log() -> None:
    """SPEC commitments-32: the deadline of a time comes before an entry of that time."""
    document = build_commitment(withdrawal={"cut_off": "0 s"})
    before = Play(document).at("1 d").pledge("norland", "sudland")
    before.now_ms += 10 * 86_400_000 - 1
    assert before.withdraw("sudland").phase == "failed"
    at_once = in_force(document).withdraw("sudland")
    assert (at_once.phase, list(at_once.standing.leaving)) == ("in-force", ["sudland"])


def test_it_is_lifted_by_those_its_rule_names_and_by_no_fewer() -> None:
    """SPEC commitments-31."""
    play = in_force().at("20 d").lift("norland").lift("westmere").lift("norland")
    assert (play.phase, play.codes) == ("in-force", ["not-bound", "vote-exists"])
    play.lift("sudland")
    assert (play.phase, play.standing.how_ended) == ("ended", "lifted")
    assert play.lift("norland").codes[-1] == "absent-transition"


def test_all_that_are_bound_can_lift_when_fewer_are_left_than_the_rule_asks_for() -> None:
    """SPEC commitments-31."""
    document = build_commitment(lifting={"parties": 3}, term={"length": "365 d", "requires": "anyone"})
    play = in_force(document, "norland", "sudland", "westmere").lift("norland", "sudland").withdraw("westmere")
    assert play.phase == "in-force"
    assert play.at("41 d").phase == "ended"


def test_nothing_is_lifted_before_the_minimum_term() -> None:
    """SPEC commitments-31."""
    play = in_force(build_commitment(term={"length": "365 d", "minimum": "100 d"})).lift("norland", "sudland")
    assert play.codes == ["not-liftable", "not-liftable"]
    assert play.at("111 d").lift("norland", "sudland").phase == "ended"
    assert in_force(build_commitment(without=["lifting"])).lift("norland").codes == ["not-liftable"]


def test_it_expires_and_can_be_extended_as_often_as_it_says() -> None:
    """SPEC commitments-31."""
    extension = {"parties": 2, "length": "50 d", "times": 1}
    document = build_commitment(term={"length": "100 d", "extension": extension})
    play = in_force(document).at("50 d").extend("norland", "norland", "sudland")
    assert play.codes == ["vote-exists"]
    assert play.at("160 d").phase == "in-force"
    assert play.extend("norland").codes[-1] == "not-liftable"
    assert (play.at("161 d").phase, play.standing.how_ended) == ("ended", "expired")


def test_a_lift_begins_the_ramp_which_loosens_in_stages() -> None:
    """SPEC commitments-26."""
    document = build_commitment(
        stage=[{"above": "2e24 FLOP", "lasts": "10 d"}, {"above": "4e24 FLOP", "lasts": "10 d"}]
    )
    play = in_force(document).at("20 d").lift("norland", "sudland")
    assert play.phase == "in-force"
    assert [hold.above_gflop for hold in play.constraints("borealis").holds] == [2 * 10**15]
    assert play.lift("norland").codes == ["absent-transition"]
    assert [hold.above_gflop for hold in play.at("30 d").constraints("borealis").holds] == [4 * 10**15]
    assert play.at("40 d").phase == "ended"
    assert play.constraints("borealis").holds == ()


def test_a_breach_releases_the_others_where_the_commitment_says_so() -> None:
    """SPEC commitments-35."""
    assert in_force().breach("borealis").phase == "in-force"
    play = in_force(build_commitment(breach={"response": "release-others"})).breach("borealis")
    assert (play.phase, play.standing.how_ended) == ("ended", "lapsed")
    assert play.constraints("meridian").holds == ()
    assert Play(build_commitment(breach={"response": "release-others"})).breach("borealis").phase == "open"


def test_an_act_is_done_at_its_entry() -> None:
    play = in_force(build_commitment("exit"))
    assert (play.phase, play.standing.how_ended) == ("ended", "performed")


@pytest.mark.parametrize(
    ("who", "when", "to", "code"),
    [
        ("norland", (), "nothing", Code.UNKNOWN_COMMITMENT),
        ("nobody", (), "", Code.UNKNOWN_PARTICIPANT),
        ("westmere", (), "", Code.NOT_IN_SCOPE),
        ("norland", pledge_if(named={"westmere"}), "", Code.BAD_CONDITION),
        ("norland", pledge_if(parties=3), "", Code.BAD_CONDITION),
        ("norland", pledge_if(weight_ppm=1), "", Code.BAD_CONDITION),
        ("norland", pledge_if(parties=1) * 9, "", Code.TOO_LARGE),
    ],
)
def test_what_a_pledge_is_refused_for(who: str, when: tuple[object, ...], to: str, code: Code) -> None:
    """SPEC commitments-34, SPEC commitments-39; and a refusal changes nothing."""
    play = Play(build_commitment(scope={"parties": ["norland", "sudland"]}))
    before = play.registry.describe()
    play.pledge(who, when=when, to=to)  # type: ignore[arg-type]
    assert play.codes == [code]
    assert play.registry.describe() == before


def test_a_second_pledge_and_a_second_commitment_of_one_name_are_refused() -> None:
    """SPEC commitments-33, SPEC commitments-34."""
    play = Play(build_commitment()).at("1 d").pledge("norland", "norland")
    play.propose(build_commitment(entry={"parties": 3}))
    assert play.codes == ["pledge-exists", "commitment-exists"]
    play.propose(build_commitment(ident="other"), "nobody")
    play.propose(build_commitment(ident="closed", scope={"parties": ["norland", "sudland"]}), "westmere")
    assert play.at("60 d").propose(build_commitment(ident="late"))
    assert play.codes[2:] == ["unknown-participant", "not-in-scope", "pledge-too-late"]


def test_compiling_is_all_that_a_proposal_needs() -> None:
    with pytest.raises(Refused):
        Play().registry.standing(compiled(build_commitment()).id)
