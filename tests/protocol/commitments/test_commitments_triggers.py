"""Triggers: bounds, persistence, hysteresis, families, silence, censoring."""

from __future__ import annotations

import dataclasses

import pytest
from commitments import MEMBERS, TRIGGERS, Play, build_commitment

from pacekeeper.protocol.commitments.triggers import Report, TriggerState
from pacekeeper.protocol.units import format_time

DOCUMENT = build_commitment(more=TRIGGERS)
ENDING = build_commitment(more={**TRIGGERS, "triggers": {"families": 2, "when_below": "end"}})


def armed(document: bytes = DOCUMENT) -> Play:
    """Pledged on day 1, armed on day 11; both reporters have to report within 15 days."""
    play = Play(document).at("1 d").pledge("norland", "sudland").at("11 d")
    assert play.phase == "armed"
    return play


def both(play: Play, code: int, horizon: int, *days: int) -> Play:
    for day in days:
        play.at(f"{day} d").report("merged-code", "borealis", (code, code + 5, code + 9))
        play.report("task-horizon", "sudland", (horizon, horizon + 5, horizon + 9))
    return play


def test_two_families_one_external_bring_it_into_force_after_as_many_reports_as_asked_for() -> None:
    """SPEC commitments-23, SPEC commitments-24: persistence, and both families."""
    play = both(armed(), 80, 12, 12)
    assert play.phase == "armed"
    both(play, 80, 12, 22)
    assert play.phase == "in-force"
    assert play.constraints("borealis").holds == ()
    assert play.constraints("borealis", "23 d").holds != ()


def test_one_family_is_not_enough_however_high() -> None:
    """SPEC commitments-23."""
    play = armed()
    for day in (12, 22, 32, 42):
        play.at(f"{day} d").report("merged-code", "borealis", "100").report("task-horizon", "sudland", "1")
    assert play.phase == "armed"


def test_the_lower_bound_decides_and_not_the_central_value() -> None:
    """SPEC commitments-24: a 12 h horizon from 5.3 to 66 h is no 12 h."""
    play = armed()
    for day in (12, 22, 32):
        play.at(f"{day} d").report("merged-code", "borealis", "90")
        play.report("task-horizon", "sudland", (53, 120, 660), scale=1)
    assert play.phase == "armed"


def test_it_goes_off_only_when_upper_bounds_are_below_the_off_level_as_often() -> None:
    """SPEC commitments-24: hysteresis."""
    play = both(both(armed(), 80, 12, 12, 22), 65, 12, 32, 42)
    assert play.phase == "in-force", "an upper bound of 74 is not below 70"
    play.at("52 d").report("merged-code", "borealis", (60, 62, 69)).report("task-horizon", "sudland", "12")
    assert play.phase == "in-force"
    play.at("62 d").report("merged-code", "borealis", (60, 62, 69)).report("task-horizon", "sudland", "12")
    assert play.phase == "armed"
    assert play.constraints("borealis").holds == ()
    assert both(play, 85, 12, 72, 82).phase == "in-force", "and it can be triggered again"


def test_a_censored_value_is_no_number() -> None:
    """SPEC commitments-22."""
    play = both(armed(), 80, 12, 12)
    play.at("22 d").report("merged-code", "borealis", "99", censored=True).report("task-horizon", "sudland", "12")
    assert play.phase == "armed"
    play.at("23 d").report("merged-code", "borealis", "80")
    assert play.phase == "in-force", "it interrupts nothing either"


def test_what_does_not_count_as_a_report() -> None:
    """SPEC commitments-22: too soon after the last, in another unit, by a stranger."""
    state = TriggerState(Play(DOCUMENT).standing.terms.triggers)  # type: ignore[arg-type]
    day = 86_400_000

    def report(reporter: str = "borealis", unit: str = "%", until_ms: int = day) -> Report:
        return Report("merged-code", reporter, unit, 0, 90, 90, 90, False, until_ms)

    assert not state.observe(report(reporter="meridian"))
    assert not state.observe(report(unit="h"))
    assert state.observe(report())
    assert not state.observe(report(until_ms=11 * day - 1))
    assert state.observe(report(until_ms=11 * day))


def test_who_does_not_report_counts_as_met_for_its_own_family_alone() -> None:
    """SPEC commitments-37."""
    play = armed().at("20 d").report("task-horizon", "sudland", "1").at("26 d")
    assert [line for line in play.story() if "overdue" in line] == [
        f"{format_time(play.now_ms)} overdue merged-code/borealis armed"
    ]
    assert play.phase == "armed"
    play.at("30 d").report("task-horizon", "sudland", "12").at("40 d").report("task-horizon", "sudland", "12")
    assert play.phase == "in-force"
    play.report("merged-code", "borealis", "10")
    assert play.phase == "armed", "it has reported, and the number is low"


def test_silence_of_all_families_triggers() -> None:
    """SPEC commitments-37: there is nothing to win by muting everyone."""
    assert armed().at("26 d").phase == "in-force"


def test_when_below_can_end_it_and_a_ramp_once_begun_goes_to_its_end() -> None:
    document = build_commitment(
        more={**TRIGGERS, "triggers": {"families": 2, "when_below": "end"}},
        stage=[{"above": "2e24 FLOP", "lasts": "20 d"}],
    )
    for text, phase in ((ENDING, "ended"), (document, "in-force")):
        play = both(armed(text), 80, 12, 12, 22)
        for day in (32, 42):
            play.at(f"{day} d").report("merged-code", "borealis", "10").report("task-horizon", "sudland", "1")
        assert play.phase == phase
    both(play, 99, 20, 52)
    assert (play.at("62 d").phase, play.standing.how_ended) == ("ended", "lifted")


@pytest.mark.parametrize("moment", ["11 d", "10 d"])
def test_reports_go_forward_in_time_and_not_beyond_the_present(moment: str) -> None:
    play = armed().report("merged-code", "borealis", "80")
    play.now_ms -= 86_400_000 if moment == "10 d" else 0
    report = Report("merged-code", "borealis", "%", 0, 1, 1, 1, False, play.now_ms)
    refusal = play.player.put(play.player.now_ms, lambda index, now: play.registry.report(report, index, now))
    assert refusal is not None
    future = Report("merged-code", "borealis", "%", 0, 1, 1, 1, False, play.player.now_ms + 1)
    refusal = play.player.put(play.player.now_ms, lambda index, now: play.registry.report(future, index, now))
    assert refusal is not None
    assert refusal.code == "bad-report"


def test_a_reporter_that_has_left_is_a_silent_one() -> None:
    """SPEC commitments-58: an exit neither mutes an indicator nor ends what the others are held by."""
    play = Play(DOCUMENT).at("1 d").pledge("norland", "westmere").at("11 d")
    both(play, 80, 12, 12, 22)
    assert play.phase == "in-force"
    staying = dataclasses.replace(MEMBERS, parties=MEMBERS.parties - {"sudland"}, labs={"borealis": "norland"})
    play.registry.set_members(staying, 99, play.now_ms)
    for day in (32, 42, 52, 62):
        play.at(f"{day} d").report("merged-code", "borealis", "90")
    assert play.phase == "in-force"
    play.report("task-horizon", "sudland", "1")
    assert play.codes == ["unknown-participant"]
    assert "overdue" in [moment.what for moment in play.registry.timeline("pause")]
