"""The published templates: each compiles, lints without errors, and lives as its text says."""

from __future__ import annotations

import re

import pytest
from commitment_templates import NAMES, fill, template
from commitments import MEMBERS, START_MS, compiled, pledge_if

from pacekeeper.protocol.commitments.player import Step
from pacekeeper.protocol.commitments.simulate import Foresight, foresee
from pacekeeper.protocol.commitments.triggers import Report
from pacekeeper.protocol.documents.commitment_lint import lint_commitment

DAY = 86_400_000


def pledges(*who: str, day: int = 1) -> list[Step]:
    return [Step(START_MS + day * DAY, "pledge", one) for one in who]


def played(name: str, steps: list[Step], days: int = 100) -> Foresight:
    return foresee(compiled(fill(name)), MEMBERS, "norland", START_MS, steps, START_MS + days * DAY)


@pytest.mark.parametrize("name", NAMES)
def test_each_template_lints_without_errors(name: str) -> None:
    problems = lint_commitment(fill(name), MEMBERS)
    assert [problem for problem in problems if problem.severity == "error"] == []
    allowed = {"growth": ["lease"], "bilateral": ["each of those named"], "exit": ["each of those named"]}.get(name, [])
    allowed = [*allowed, "accounts have no operations for"]  # an exemption that nothing judges, which the text says
    assert all(any(word in problem.message for word in allowed) for problem in problems), problems


@pytest.mark.parametrize("name", NAMES)
def test_each_template_keeps_its_numbers_in_its_terms(name: str) -> None:
    prose = re.sub(r"```toml.*?```", "", template(name), flags=re.DOTALL)
    assert re.findall(r"[0-9]+ (?:d|h|days|hours|%|percent|FLOP)", prose) == []
    assert max(len(line) for line in template(name).split("\n")) <= 120


def test_the_joint_pause_needs_labs_in_their_own_name() -> None:
    clean = [Step(START_MS, "clean", who, periods=3) for who in (*MEMBERS.parties, *MEMBERS.labs)]
    without = played("pause", clean + pledges("norland", "sudland", "westmere"))
    assert without.phase == "failed"
    foresight = played("pause", clean + pledges("norland", "sudland", "westmere", "borealis", "zephyr"))
    assert foresight.phase == "in-force"
    assert foresight.gates["meridian"][-1].holds != ()
    assert {budget.category for budget in foresight.gates["meridian"][-1].exempt} == {"evaluation", "inference"}


def test_the_growth_slow_down_needs_weight_and_numbers() -> None:
    assert played("growth", pledges("sudland", "westmere", "eastholm")).phase in ("in-force", "pending")
    assert played("growth", pledges("norland", "sudland")).phase == "failed"


def test_the_bilateral_pause_binds_nobody_before_both_and_ends_for_both() -> None:
    first = [Step(START_MS + DAY, "pledge", "norland", alternatives=pledge_if(named={"sudland"}))]
    assert played("bilateral", first, 10).bound == {}
    foresight = played("bilateral", first + pledges("sudland", day=2), 50)
    assert set(foresight.bound) == {"norland", "sudland"}
    leave = [Step(START_MS + 60 * DAY, "withdraw", "sudland", reason="extraordinary events")]
    assert played("bilateral", first + pledges("sudland", day=2) + leave, 149).phase == "in-force"
    assert played("bilateral", first + pledges("sudland", day=2) + leave, 151).phase == "ended"


def test_the_triggered_pause_names_the_collapsing_sets_and_follows_its_indicators() -> None:
    """SPEC commitments-40."""
    plan = pledges("norland", "sudland", "westmere", "eastholm", "borealis", "zephyr")
    levels = [
        ("merged-code", "borealis", "%", 85),
        ("merged-code", "meridian", "%", 20),
        ("task-horizon", "westmere", "h", 14),
        ("reproduced-research", "westmere", "%", 10),
    ]
    reports = [
        Step(day, "report", who, report=Report(indicator, who, unit, 0, level, level, level, False, day))
        for day in (START_MS + 40 * DAY, START_MS + 70 * DAY, START_MS + 100 * DAY)
        for indicator, who, unit, level in levels
    ]
    armed = played("triggered-pause", plan + reports, 99)
    assert armed.phase == "armed"
    two_leave = {frozenset(pair) for pair in armed.collapse.sets}
    assert frozenset({"borealis"}) in two_leave
    assert frozenset({"norland", "sudland"}) in two_leave
    assert len(two_leave) == 2 + 6
    assert played("triggered-pause", plan + reports, 101).phase == "in-force"


def test_accession_exit_and_new_keys_are_done_at_their_entry() -> None:
    assert played("keys", pledges("norland", "sudland")).phase == "failed"
    assert played("keys", pledges("norland", "sudland", "westmere")).phase == "ended"
    assert played("accession", pledges("norland", "sudland", "westmere")).phase == "ended"
    without = played("exit", pledges("norland", "sudland", "westmere"))
    assert without.phase == "failed", "who leaves has not asked for it"
    assert played("exit", pledges("norland", "eastholm"), 30).phase == "pending"
    assert played("exit", pledges("norland", "eastholm"), 31).phase == "ended"
