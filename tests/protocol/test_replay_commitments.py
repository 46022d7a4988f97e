"""Commitments on the log: admitted, brought into force by entries and deadlines, and what an account then convicts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from commitments import build_commitment
from covenant import Covenant

from pacekeeper.protocol import limits
from pacekeeper.protocol.commitments.transitions import Phase
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay import Applied, ViolationKind, Void
from pacekeeper.protocol.units import format_time
from pacekeeper.v1 import statements_pb2 as pb


def test_the_last_pledge_brings_a_pause_into_force_after_its_delay() -> None:
    """SPEC replay-3: the delay's end is a deadline as any other, brought out by the next entry."""
    world = Covenant()
    at = world.start(1) + 10_000
    world.to(at)
    assert isinstance(world.propose(at), Applied)
    world.pledge("norland", at)
    assert world.phase() is Phase.OPEN
    world.pledge("sudland", at + 1_000)
    assert world.phase() is Phase.PENDING
    planned = world.state.commitments.constraints_on("borealis", at + 1_000)
    assert planned.next_change_ms == at + 11_000
    world.to(at + 11_000)
    assert world.phase() is Phase.IN_FORCE
    now = world.state.commitments.constraints_on("borealis", world.state.last_time_ms)
    assert [(hold.above_gflop, hold.enforced_ms) for hold in now.holds] == [(500, at + 31_000)]
    world.proved()


def test_training_through_a_pause_is_a_violation_that_every_replay_derives() -> None:
    """SPEC conduct-1, SPEC conduct-2: only what lies after the moment it bites, and above the limit, convicts."""
    world = Covenant()
    world.covenant(world.start(1))
    bites = world.start(1) + 30_000
    world.to(world.end(1))
    # 100 before, none after: lawful. The same in both parts: the second convicts.
    assert isinstance(world.split(1, 0, splits=(10_000, 30_000), at=world.end(1)), Applied)
    assert world.kinds() == []
    world.to(world.end(2))
    assert isinstance(world.attest("borealis", 2, {"run-1": 40}), Applied)
    [violation] = world.state.violations
    assert (violation.kind, violation.subject, violation.period) == (ViolationKind.PAUSE, "borealis", 2)
    assert (violation.cap, violation.bounds, violation.sources) == ("halt", (40, 40), ("borealis/run-1",))
    assert world.state.commitments.boundaries("borealis", world.start(1), world.end(1)) == (
        world.start(1) + 10_000,
        bites,
    )
    world.proved()


def test_a_run_below_the_limit_goes_on_until_it_reaches_it() -> None:
    """SPEC conduct-2: of a run that passes the limit while the pause holds only the excess counts."""
    world = Covenant(measure={"pause": {"above": "1e12 FLOP", "wind_down": "20 s"}})
    world.covenant(world.start(1))
    for period, amount in ((1, 0), (2, 350), (3, 100)):
        world.to(world.end(period))
        assert isinstance(world.attest("borealis", period, {"run-1": amount}), Applied)
    [violation] = world.state.violations
    assert (violation.period, violation.bounds) == (3, (50, 50))
    world.proved()


def test_an_account_across_a_boundary_is_undecided_until_it_is_split() -> None:
    """SPEC conduct-4: left alone it convicts at its time; split by a correction it does not."""
    for corrected in (True, False):
        world = Covenant()
        world.covenant(world.start(1))
        world.to(world.end(1))
        assert isinstance(world.attest("borealis", 1, {"run-1": 100}), Applied)
        assert world.kinds() == []
        assert world.state.conduct["halt", "borealis"].undecided == {1}
        if corrected:
            account = world.account(1, {"run-1": 100})
            account.splits_ms.append(30_000)
            statement = pb.Correction(
                agreement=world.agreement.fingerprint,
                lab="borealis",
                link=world.link("borealis"),
                account=account,
                corrects=world.state.labs["borealis"].accounts[1].id,
            )
            assert isinstance(world.put_chain("borealis", statement, world.end(1) + 1), Applied)
        world.to(world.end(2))
        world.attest("borealis", 2, {})
        world.to(world.due(2))
        assert world.kinds() == ([] if corrected else [(ViolationKind.UNSPLIT, 1)])
        world.proved()


def test_a_slow_down_allows_its_rate_and_no_more() -> None:
    """SPEC conduct-1: over the time for which it bites in the period, all runs of the lab together."""
    measure = {"slow_down": {"rate": "2e9 FLOP/s", "wind_down": "20 s"}}
    world = Covenant(measure=measure)
    world.covenant(world.start(1))
    world.to(world.end(1))
    # It bites for 70 s of period 1: 140 gigaFLOP are allowed there, and 200 in a whole period.
    assert isinstance(world.split(1, 0, 1, splits=(30_000,), at=world.end(1), amount=140), Applied)
    world.to(world.end(2))
    assert isinstance(world.attest("borealis", 2, {"run-1": 200}), Applied)
    assert world.kinds() == []
    world.to(world.end(3))
    assert isinstance(world.attest("borealis", 3, {"run-1": 201}), Applied)
    [violation] = world.state.violations
    assert (violation.kind, violation.limit, violation.bounds) == (ViolationKind.RATE, 200, (201, 201))
    world.proved()


def test_a_budget_for_training_goes_beside_a_pause() -> None:
    """SPEC conduct-3: within each of its windows, or in all."""
    exempt = [{"id": "small", "category": "training", "budget": "1e11 FLOP", "window": "2 periods"}]
    world = Covenant(exemption=exempt)
    world.covenant(world.start(1))
    for period, amount in ((1, 0), (2, 60), (3, 40), (4, 60), (5, 41)):
        world.to(world.end(period))
        assert isinstance(world.attest("borealis", period, {"run-1": amount}), Applied)
    assert world.kinds() == [(ViolationKind.PAUSE, 5)]
    world.proved()


def test_a_breach_is_established_when_its_period_closes_and_releases_the_others() -> None:
    """SPEC conduct-5: by the replay, without a vote, and not if the account in force clears it by then."""
    for cleared in (False, True):
        world = Covenant(breach={"response": "release-others"})
        world.covenant(world.start(1))
        world.to(world.end(1))
        world.attest("borealis", 1, {})
        world.to(world.end(2))
        assert isinstance(world.attest("borealis", 2, {"run-1": 40}), Applied)
        if cleared:
            account = world.state.labs["borealis"].accounts[2].id
            assert isinstance(world.correct("borealis", 2, {"run-1": 0}, account, at=world.end(2) + 1), Applied)
        for period in range(3, 7):
            world.to(world.end(period))
            world.attest("borealis", period, {})
        assert world.phase() is Phase.IN_FORCE
        world.to(world.agreement.fill_in_ms(2))
        assert world.phase() is (Phase.IN_FORCE if cleared else Phase.ENDED)
        assert world.kinds() == [(ViolationKind.PAUSE, 2)], "what was found stays found"
        world.proved()


def test_a_lift_ends_it_and_what_follows_is_lawful() -> None:
    world = Covenant()
    world.covenant(world.start(1))
    world.to(world.end(1))
    world.attest("borealis", 1, {})
    world.lift("norland", world.end(1))
    assert world.phase() is Phase.IN_FORCE
    world.lift("sudland", world.end(1) + 40_000)
    assert world.phase() is Phase.ENDED
    world.to(world.end(2))
    assert isinstance(world.split(2, 1, splits=(40_000,), at=world.end(2)), Applied)
    assert world.kinds() == []
    world.proved()


def test_clean_periods_are_those_since_the_last_violation() -> None:
    """SPEC commitments-30: the replay tells the registry; a lab with a missing period cannot bind itself yet."""
    world = Covenant(entry={"parties": 1, "clean_periods": 2, "pledges_by": "2030-01-01T00:00:00Z"})
    world.to(world.due(1))
    assert world.kinds() == [(ViolationKind.PERIOD_MISSING, 1)]
    assert isinstance(world.propose(world.due(1)), Applied)
    assert isinstance(world.pledge("norland", world.due(1)), Applied)
    assert world.phase() is Phase.OPEN
    for period in range(1, 5):
        world.to(world.end(period))
        world.attest("borealis", period, {}, at=max(world.end(period), world.due(1)))
    world.to(world.due(3) + 1)
    assert world.state.clean_periods("borealis") == 2
    assert world.state.clean_periods("norland") == 2
    world.pledge("sudland", world.due(3) + 1)
    assert world.phase() is Phase.PENDING
    world.proved()


REFUSED = [
    ("another document", Code.BAD_COMMITMENT, {"digest": bytes(32)}),
    ("none with that id", Code.UNKNOWN_COMMITMENT, {"commitment": "other"}),
    ("again", Code.WRONG_ROUND, {"round": 1}),
    ("on a stranger", Code.BAD_CONDITION, {"alternatives": [pb.Condition(named=["nobody"])]}),
]


@pytest.mark.parametrize(("why", "code", "change"), REFUSED, ids=[case[0] for case in REFUSED])
def test_a_pledge_that_is_refused_has_no_effect(why: str, code: Code, change: dict[str, Any]) -> None:
    """SPEC commitments-43, SPEC replay-2."""
    world = Covenant()
    world.propose(world.start(1))
    outcome = world.pledge("sudland", world.start(1), **change)
    assert isinstance(outcome, Void), why
    assert outcome.code is code
    assert world.state.commitments.standing("halt").pledges == {}
    world.proved()


def test_whose_key_speaks_for_whom() -> None:
    """SPEC replay-6: a party by its party key and a lab by its own; nobody for another, no verifier for its party."""
    world = Covenant()
    world.propose(world.start(1))
    pledge = pb.Pledge(
        agreement=world.agreement.fingerprint, participant="sudland", commitment="halt", digest=world.digest
    )
    for key in (world.keys.party("norland"), world.keys.verifier_statement("sudland"), world.keys.lab("borealis")):
        outcome = world.put(world.seal(pledge, key), world.start(1))
        assert isinstance(outcome, Void)
        assert outcome.code is Code.WRONG_ROLE
    assert isinstance(world.pledge("borealis", world.start(1)), Applied)
    world.proved()


def test_a_pledge_taken_back_is_not_repeated_by_whoever_kept_it() -> None:
    """SPEC replay-13: an old pledge, withdrawal or lift has no effect when a log sequences it again."""
    world = Covenant()
    world.propose(world.start(1))
    envelopes = []
    at = world.start(1)
    assert isinstance(world.pledge("norland", at), Applied)
    envelopes.append(world.entries[-1])
    assert isinstance(world.leave("norland", at), Applied)
    envelopes.append(world.entries[-1])
    for entry in envelopes:
        assert isinstance(world.put_entry(entry), Void)
    assert isinstance(world.pledge("norland", at, round=1), Applied)
    for entry in envelopes:
        assert isinstance(world.put_entry(entry), Void)
    assert list(world.state.commitments.standing("halt").pledges) == ["norland"]
    world.proved()


@pytest.mark.parametrize(("version", "refused"), [(2, ["growth", "cap"])])
def test_kinds_that_nobody_judges_are_refused(version: int, refused: list[str]) -> None:
    """SPEC commitments-42: version 2 refuses growth limits and caps for ever."""
    world = Covenant({"rules": version})
    for kind in refused:
        document = build_commitment(kind, "slow", entry={"pledges_by": format_time(world.start(3))})
        outcome = world.propose(world.start(1), document=document)
        assert isinstance(outcome, Void)
        assert outcome.code is Code.BAD_COMMITMENT
        assert kind in outcome.message
    broken = world.propose(world.start(1), document=world.text.replace(b"length", b"lenght"))
    assert isinstance(broken, Void)
    assert broken.code is Code.BAD_COMMITMENT
    assert "line" in broken.message
    world.proved()


TRIGGERED: dict[str, Any] = {
    "breach": {"response": "release-others"},
    "triggers": {"families": 2, "when_below": "arm"},
    "indicator": [
        {"id": "code", "family": "automation", "source": "lab", "on": "80 %", "off": "70 %", "reports": 1,
         "every": "1 s", "grace": "10 h", "reporters": ["borealis"]},
        {"id": "horizon", "family": "autonomy", "source": "external", "on": "80 %", "off": "70 %", "reports": 1,
         "every": "1 s", "grace": "10 h", "reporters": ["sudland"]},
    ],
}  # fmt: skip


def measured(world: Covenant, percent: int, at: int) -> None:
    """Both indicators are reported at a level, and the trigger follows."""
    world.to(at)
    for indicator, who in (("code", "borealis"), ("horizon", "sudland")):
        report = pb.IndicatorReport(
            agreement=world.agreement.fingerprint,
            reporter=who,
            indicator=indicator,
            unit="%",
            lower=percent,
            central=percent,
            upper=percent,
            until_ms=at,
            method="counted",
            evidence_digest=bytes(32),
        )
        key = world.keys.lab(who) if indicator == "code" else world.keys.verifier_statement(who)
        assert isinstance(world.put(world.seal(report, key), at), Applied)


@pytest.mark.parametrize("version", [2, 3])
def test_a_breach_that_is_established_when_the_triggers_are_off_again(version: int) -> None:
    """SPEC commitments-78: releases the others all the same, since version 3; before, the pause went on waiting."""
    world = Covenant(**TRIGGERED)
    world.state.agreement = replace(world.state.agreement, rules_version=version)
    world.covenant(world.start(1))
    measured(world, 90, world.start(1) + 20_000)
    assert world.phase() is Phase.IN_FORCE
    world.to(world.end(1))
    world.attest("borealis", 1, {})
    world.to(world.end(2))
    assert isinstance(world.attest("borealis", 2, {"run-1": 40}), Applied)
    assert world.kinds() == [(ViolationKind.PAUSE, 2)]
    measured(world, 10, world.end(2) + 1_000)
    assert world.phase() is Phase.ARMED
    for period in range(3, 7):
        world.to(world.end(period))
        world.attest("borealis", period, {})
    world.to(world.agreement.fill_in_ms(2))
    assert world.phase() is (Phase.ENDED if version == 3 else Phase.ARMED)
    told = [moment.what for moment in world.state.commitments.timeline("halt")][-2:]
    assert (told == ["breach", "released"]) == (version == 3)


@pytest.mark.parametrize("version", [2, 3])
def test_the_reasons_of_who_left_are_kept_and_digested_since_version_3(version: int) -> None:
    """SPEC commitments-77: of a withdrawal at once, and of a notice; without one, nothing changes."""
    world = Covenant()
    world.state.agreement = replace(world.state.agreement, rules_version=version)
    at = world.start(1)
    world.covenant(at)
    world.pledge("eastholm", at)
    assert "reasons" not in world.state.commitments.standing("halt").describe(reasons=True)
    world.leave("eastholm", at + 1, reason="a change of government")
    world.to(at + 20_000)
    world.leave("sudland", at + 20_000, reason="the others do not count this")
    reasons = [(m.what, m.who, m.reason) for m in world.state.commitments.timeline("halt") if m.reason]
    assert [who for _, who, _ in reasons] == ["eastholm", "sudland"]
    assert reasons[1][0::2] == ("notice", "the others do not count this")
    described: Any = world.state.describe()
    standing = described["commitments"]["registry"]["standings"]["halt"]
    assert ("reasons" in standing) == (version == 3)
    if version == 3:
        assert [text for _, _, text in standing["reasons"]] == [text for _, _, text in reasons]
        world.proved()


def test_reasons_are_kept_as_long_as_the_time_line_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """SPEC commitments-77: bounded, as the time line is."""
    monkeypatch.setattr(limits, "MAX_TIMELINE", 5)
    world = Covenant()
    world.covenant(world.start(1))
    world.leave("sudland", world.start(1) + 1, reason="too late to be told")
    assert [m.reason for m in world.state.commitments.timeline("halt")] == [""] * 5


def test_a_pledge_that_is_refused_tells_the_registry_nothing() -> None:
    """SPEC replay-11: not even how many clean periods there are, or a log that refuses much would bind others."""
    world = Covenant(entry={"clean_periods": 1})
    at = world.start(2)
    world.to(at)
    assert isinstance(world.propose(at), Applied)
    assert isinstance(world.pledge("norland", at), Applied)
    world.to(world.end(2))
    before = world.state.describe()
    again = pb.Pledge(
        agreement=world.agreement.fingerprint, participant="norland", commitment="halt", digest=world.digest
    )
    refused = world.admit(world.seal(again, world.keys.party("norland")), world.state.last_time_ms)
    assert isinstance(refused, Refused)
    assert refused.code is Code.PLEDGE_EXISTS
    assert world.state.describe() == before
    world.proved()


@pytest.mark.parametrize(("version", "convicted"), [(2, [ViolationKind.PAUSE]), (3, [])])
def test_a_pause_that_is_only_planned_during_an_outage_of_the_log(version: int, convicted: list[ViolationKind]) -> None:
    """SPEC conduct-10: its beginning is put off, and version 2 judges as it always has."""
    world = Covenant({"rules": version}, entry={"delay": "300 s", "notice": "0 s"})
    world.covenant(world.start(1))
    silent = world.end(5) + 50_000  # the delay would have been over with period 3
    world.tick(silent)
    assert world.phase() is Phase.PENDING
    for period in range(1, 6):
        assert isinstance(world.attest("borealis", period, {"run-1": 200}, at=silent), Applied)
    assert [kind for kind, _ in world.kinds()] == convicted
    world.to(silent + 500_000)
    assert world.phase() is Phase.IN_FORCE
    assert world.state.commitments.standing("halt").constraints_ms is not None
    world.proved()
