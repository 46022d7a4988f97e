"""What an audit says of commitments: their story in order, breaches in sentences, and the same as JSON."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pledged_world import PledgedWorld
from published_log import PublishedLog

from pacekeeper.audit.export import export
from pacekeeper.audit.report import lab_standing, write_report
from pacekeeper.audit.result import AuditResult, Exit

Audit = Callable[..., AuditResult]


def told(result: AuditResult) -> list[str]:
    """The section's lines, without entry numbers and times."""
    report = write_report(result).split("\n")
    start = next(number for number, line in enumerate(report) if line.startswith("Commitments"))
    lines = report[start : report.index("", start)]
    return [re.sub(r"entry \d+, [0-9TZ:.-]+[:,] ", "", line.strip()) for line in lines]


@pytest.fixture
def world() -> PledgedWorld:
    """A pause that is broken in period 2 and lifted in period 3."""
    world = PledgedWorld()
    world.agreed(world.start(1) + 1_000)
    world.to(world.end(1))
    world.attest("borealis", 1, {"run-1": 0})
    world.to(world.end(2))
    world.attest("borealis", 2, {"run-1": 40})
    for who in ("norland", "sudland"):
        world.lift(who, world.end(2) + 1_000)
    world.to(world.end(3))
    return world


def test_the_story_is_told_in_order(world: PledgedWorld, run_audit: Audit, tmp_path: Path) -> None:
    """SPEC audit-17: proposed, pledged, met, in force, breached, lifted."""
    result = run_audit(PublishedLog(world, tmp_path))
    lines = told(result)
    assert result.status == Exit.VIOLATIONS
    digest = world.state.commitments.standing("halt").terms.digest.hex()
    assert lines == [
        "Commitments (1)",
        f'halt, "Test halt", pause, document {digest}',
        "proposed by norland",
        "pledged by norland, if with sudland",
        "pledged by sudland, in any case",
        "the conditions are met; the delay runs until 2026-01-01T00:01:51Z",
        "bound: norland, sudland",
        "the delay is over",
        "in force; constraints hold from 2026-01-01T00:01:51Z and bite from 2026-01-01T00:02:11Z",
        "pause-breached: borealis trained on in period 2 while halt held borealis/run-1: 4e10 FLOP too much",
        "norland speaks for lifting it",
        "sudland speaks for lifting it",
        "ended: lifted",
        "now ended (lifted)",
    ]


def test_a_breach_shows_in_the_labs_standing(world: PledgedWorld, run_audit: Audit, tmp_path: Path) -> None:
    """SPEC audit-17."""
    assert lab_standing(world.state, "borealis") == "IN BREACH OF A COMMITMENT"
    assert "IN BREACH OF A COMMITMENT" in write_report(run_audit(PublishedLog(world, tmp_path)))


def test_the_export_has_the_same_story(world: PledgedWorld, run_audit: Audit, tmp_path: Path) -> None:
    """SPEC audit-17."""
    [halt] = export(run_audit(PublishedLog(world, tmp_path)))["record"]["commitments"]
    assert (halt["commitment"], halt["phase"], halt["how_ended"]) == ("halt", "ended", "lifted")
    assert [pledge["if"] for pledge in halt["pledges"]] == [["with sudland"], []]
    assert [(one["kind"], one["subject"], one["period"]) for one in halt["violations"]] == [
        ("pause-breached", "borealis", 2)
    ]
    told = [moment["what"] for moment in halt["timeline"]]
    assert told[:3] == ["proposed", "pledged", "pledged"]
    assert told[-3:] == ["vote-lift", "vote-lift", "lifted"]


def test_a_breach_that_releases_the_others_is_told_after_it_became_known(run_audit: Audit, tmp_path: Path) -> None:
    """SPEC audit-17: known with the account, established once the period is closed."""
    world = PledgedWorld(breach={"response": "release-others"})
    world.agreed(world.start(1))
    world.to(world.end(1))
    world.attest("borealis", 1, {"run-1": 0})
    world.to(world.end(2))
    world.attest("borealis", 2, {"run-1": 40})
    for period in (3, 4, 5):
        world.to(world.end(period))
        world.attest("borealis", period, {})
    lines = told(run_audit(PublishedLog(world, tmp_path)))
    known = next(number for number, line in enumerate(lines) if line.startswith("pause-breached: borealis"))
    assert lines[known + 1 :] == [
        "a breach by borealis is established",
        "ended: the breach releases all others",
        "now ended (lapsed)",
    ]


def test_a_rate_that_is_exceeded_is_put_into_words(run_audit: Audit, tmp_path: Path) -> None:
    """SPEC audit-17."""
    world = PledgedWorld(measure={"slow_down": {"rate": "1e9 FLOP/s", "wind_down": "20 s"}})
    world.agreed(world.start(1))
    world.to(world.end(1))
    world.attest("borealis", 1, {"run-1": 0})
    world.to(world.end(2))
    world.attest("borealis", 2, {"run-1": 101})
    report = write_report(run_audit(PublishedLog(world, tmp_path)))
    assert "borealis used 1.01e11 FLOP in period 2, where halt allows 1e11 FLOP" in report


def test_growth_limits_are_told_with_how_each_lab_stands(run_audit: Audit, tmp_path: Path) -> None:
    """SPEC audit-17, SPEC commitments-67."""
    terms = {"window": "2 periods", "baseline": "2 periods", "growth": "10 %", "floor": "1e11 FLOP", "debt": "100 %"}
    world = PledgedWorld(measure={"growth": terms})
    world.agreed(world.start(1))
    for period, amount in ((1, 0), (2, 600), (3, 61)):
        world.to(world.end(period))
        world.attest("borealis", period, {"run-1": amount})
    assert lab_standing(world.state, "borealis") == "IN BREACH OF A COMMITMENT"
    result = run_audit(PublishedLog(world, tmp_path))
    lines = told(result)
    assert (
        "growth-exceeded: borealis used 6.61e11 FLOP by period 3, more than the 6.6e11 FLOP that halt allows its window"
    ) in lines
    assert lines[-2:] == [
        "compute of 2 periods at most 10 % over the 2 periods before, and 1e11 FLOP in any case; "
        "100 % of an overrun is owed",
        "borealis, periods 2 to 3: 6.61e11 FLOP used of 6.6e11 FLOP, exceeded",
    ]
    [halt] = export(result)["record"]["commitments"]
    assert [one["kind"] for one in halt["violations"]] == ["growth-exceeded"]


def test_a_growth_limit_left_undecided_is_put_into_words(run_audit: Audit, tmp_path: Path) -> None:
    """SPEC audit-17."""
    terms = {"window": "1 period", "baseline": "1 period", "growth": "10 %", "floor": "1e11 FLOP"}
    world = PledgedWorld(measure={"growth": terms})
    world.agreed(world.start(1))
    for period, margin in ((1, 0), (2, 50_000), (3, 0)):
        world.to(world.end(period))
        world.attest("borealis", period, {"run-1": 100 if period == 2 else 0}, margin_ppm=margin)
    world.to(world.agreement.fill_in_ms(2) + 1)
    assert (
        "growth-unresolved: borealis left its window of halt with period 2 undecided until it closed: 9.5e10 FLOP to "
        "1.05e11 FLOP used, and perhaps no more than 1e11 FLOP allowed"
    ) in write_report(run_audit(PublishedLog(world, tmp_path)))


def test_caps_by_commitment_are_told_with_their_outcomes(run_audit: Audit, tmp_path: Path) -> None:
    """SPEC audit-17, SPEC commitments-67: the violation is in the commitment's story, under its cap."""
    caps = [
        {"id": "lab-cap", "kind": "lab", "limit": "1e11 FLOP", "window": "2 periods"},
        {"id": "run-cap", "kind": "run", "limit": "1e13 FLOP"},
    ]
    world = PledgedWorld(measure={"cap": caps})
    world.agreed(world.start(1))
    for period, amount in ((1, 0), (2, 101)):
        world.to(world.end(period))
        world.attest("borealis", period, {"run-1": amount})
    assert lab_standing(world.state, "borealis") == "OVER A CAP, IN BREACH OF A COMMITMENT"
    result = run_audit(PublishedLog(world, tmp_path))
    lines = told(result)
    assert (
        "lab-cap-exceeded: borealis used 1.01e11 FLOP over 1e11 FLOP (halt/lab-cap) in the window that ends with 2"
    ) in lines
    assert lines[-3:] == [
        "Cap lab-cap: each lab in 2 periods together may use 1e11 FLOP: 0 within, 1 exceeded, 0 indeterminate",
        "borealis: exceeded, 1.01e11 FLOP",
        "Cap run-cap: each run with its ancestors may use 1e13 FLOP: 1 within, 0 exceeded, 0 indeterminate",
    ]
    [halt] = export(result)["record"]["commitments"]
    assert [one["kind"] for one in halt["violations"]] == ["lab-cap-exceeded"]


def test_an_account_that_was_not_split_is_put_into_words(run_audit: Audit, tmp_path: Path) -> None:
    """SPEC audit-17."""
    world = PledgedWorld()
    world.agreed(world.start(1))
    world.to(world.end(1))
    world.attest("borealis", 1, {"run-1": 40})
    for period in (2, 3, 4):
        world.to(world.end(period))
        world.attest("borealis", period, {})
    report = write_report(run_audit(PublishedLog(world, tmp_path)))
    assert "constraint-unresolved: borealis did not split its account of period 1 in time, where halt began" in report


def test_what_is_planned_is_said_as_planned(run_audit: Audit, tmp_path: Path) -> None:
    world = PledgedWorld()
    at = world.start(1)
    world.propose("norland", at)
    world.pledge("norland", at, parties=3)
    lines = told(run_audit(PublishedLog(world, tmp_path / "open")))
    assert lines[-3:] == [
        "now open for pledges until 2026-01-01T00:05:00Z; it needs parties>=2",
        f"pledge of norland (entry {len(world.entries) - 1}), if parties>=3: not bound",
        "lifting takes parties>=2; for it: nobody yet",
    ]
    world.pledge("sudland", at)
    world.pledge("eastholm", at)
    lines = told(run_audit(PublishedLog(world, tmp_path / "pending")))
    assert "now pending: the delay runs until 2026-01-01T00:01:50Z" in lines
    assert "bites from 2026-01-01T00:02:10Z" in lines
    world.withdraw("eastholm", at + 11_000)
    lines = told(run_audit(PublishedLog(world, tmp_path / "notice")))
    assert any(line.startswith("eastholm gives notice of withdrawal, and leaves at 2026-01-31") for line in lines)
    assert "now IN FORCE; entered into force at 2026-01-01T00:01:50Z" in lines
    assert any("notice given, leaves at " in line for line in lines)


def test_a_log_without_commitments_says_so(compliant: PublishedLog, run_audit: Audit) -> None:
    assert told(run_audit(compliant)) == ["Commitments (0)", "none"]
