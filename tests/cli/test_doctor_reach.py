"""The doctor asks the others and compares clocks, within what the agreement tolerates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from status_server import StatusServers
from world import World

from pacekeeper.cli.doctor.check import Check, Level, fail, ok, status_of, warn
from pacekeeper.cli.doctor.reach import check_verifiers, judge_clock, judge_cosignature_times
from pacekeeper.cli.doctor.subject import Subject

Run = Callable[..., Any]


def test_with_nothing_running_the_log_is_missed_by_the_others_and_not_by_itself(doctor: Any) -> None:
    status, checks = doctor.examine("log")
    assert status == 0
    assert (checks["log"][0]["level"], checks["checkpoint"][0]["level"]) == ("warn", "warn")
    assert [checks[f"verifier_{party}"][0]["level"] for party in ("norland", "eastholm")] == ["warn", "warn"]
    assert checks["quorum"][0]["level"] == "warn"
    status, checks = doctor.examine("lab")
    assert status == 2
    assert checks["log"][0]["level"] == "fail"
    status, checks = doctor.examine("verifier")
    assert checks["verifier_norland"][0]["sentence"] == "this is ours, and it does not run yet"


def test_clocks_are_compared_within_the_agreements_tolerance() -> None:
    agreement = World(tolerance="10 s").agreement

    def judge(said_ms: int, step_ms: int = 0) -> Level:
        return judge_clock("x", said_ms, 100_000, 100_050, agreement, step_ms).level

    assert [judge(said) for said in (89_999, 90_000, 110_050, 110_051)] == [Level.WARN, Level.OK, Level.OK, Level.WARN]
    assert judge(89_000, 1_000) is Level.OK
    behind = judge_clock("x", 3_700_050, 100_000, 100_050, agreement, 0)
    assert behind.sentence == "this clock is about 1 h behind that of x"
    ahead = judge_clock("x", 40_000, 100_000, 100_050, agreement, 0)
    assert ahead.sentence == "this clock is about 1 min ahead of that of x"


def test_cosignature_times_tell_of_a_clock_that_is_behind_and_of_a_log_that_stands_still() -> None:
    agreement = World(tolerance="10 s", tick="5 min", unwitnessed="1 h", period="1 d").agreement
    times = [1_000, 2_000, 3_000, 99_999]  # the quorum's newest is the third from above
    allowed_ms = 310_000 + 3_600_000

    def judge(now_ms: int) -> Level:
        return judge_cosignature_times(agreement, times, now_ms).level

    assert judge(2_000_000) is Level.OK
    assert judge(2_000_000 - 10_000) is Level.OK
    assert judge(2_000_000 - 10_001) is Level.WARN
    assert judge(2_000_000 + allowed_ms) is Level.OK
    assert judge(2_000_000 + allowed_ms + 1) is Level.WARN


def test_verifiers_that_are_reachable_absent_impostors_or_out_of_time(doctor: Any) -> None:
    """Over real TLS: each is told apart."""
    parties = ("norland", "sudland", "westmere", "eastholm")

    def ask(servers: StatusServers) -> dict[str, list[Check]]:
        agreement = World(pins=servers.pins, addresses=servers.addresses, tolerance="10 s").agreement
        found: dict[str, list[Check]] = {}
        for check in check_verifiers(_lab_subject(doctor), agreement):
            found.setdefault(check.name, []).append(check)
        return found

    with StatusServers(parties, stopped=["sudland"], impostors=["westmere"]) as servers:
        checks = ask(servers)
        assert [checks[f"verifier_{party}"][0].level for party in parties] == ["ok", "warn", "FAIL", "ok"]
        assert "has not the key that the agreement pins" in checks["verifier_westmere"][0].sentence
        assert checks["quorum"][0].sentence == "2 verifiers answer, and the quorum is 3"
        servers.offset_ms = 60_000
        late = ask(servers)["verifier_norland"] + ask(servers)["clock"]
        assert any("behind that of verifier norland" in check.sentence for check in late)


def _lab_subject(doctor: Any) -> Subject:
    from pacekeeper.cli.doctor.subject import open_subject

    return open_subject(doctor.config("lab"))


def test_the_exit_status_is_that_of_the_worst_check() -> None:
    """SPEC cli-10."""
    well, dubious = ok("a", "b"), warn("a", "b", "c")
    wrong, unsafe = fail("a", "b", "c"), fail("a", "b", "c", unsafe=True)
    assert status_of([well, dubious]) == 0
    assert status_of([well, wrong, dubious]) == 2
    assert status_of([unsafe, wrong]) == 5
    assert status_of([]) == 0
