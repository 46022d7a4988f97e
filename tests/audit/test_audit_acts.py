"""What an audit says of the agreement in force: who is a party now, who came and went, what was amended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from membership_world import MembershipWorld, new_lab, newcomer
from published_log import PublishedLog

from pacekeeper.audit.acts import export_agreement, tell_agreement
from pacekeeper.audit.export import export
from pacekeeper.audit.report import write_report
from pacekeeper.audit.result import AuditResult, Exit
from pacekeeper.protocol.documents.commitment_model import Accession

Audit = Callable[..., AuditResult]
CAP = {"id": "lab", "kind": "lab", "limit": "1e12 FLOP", "window": "2 periods"}


def without_place(sentences: list[str]) -> list[str]:
    """Sentences without entry and time."""
    return [sentence.split(", by ", 1)[-1] for sentence in sentences]


def test_who_came_and_went_is_told_in_order_with_the_commitment() -> None:
    """SPEC audit-27."""
    world = MembershipWorld()
    world.perform(world.exit("eastholm", "leave", (2, 0)), world.start(0) + 10_000)
    world.perform(world.exit("sudland", "also", (2, 0)), world.start(0) + 30_000)
    for lab in ("borealis", "meridian"):
        world.account_for(lab, 0)
    joining = world.accession("welcome", [newcomer("highmark")], [new_lab("zephyr", "highmark")], (2, 0))
    world.perform(joining, world.start(1) + 10_000, ("norland", "westmere"))
    now, *told = tell_agreement(world.state)
    assert now == "3 parties now: Norland (norland), Westmere (westmere), Highmark (highmark)"
    assert without_place(told) == [
        "leave: Eastholm (eastholm) left",
        "leave: the quorum is 2 cosignatures, and 0 liars may be among the verifiers",
        "also: Sudland (sudland) left",
        "also: meridian left with it, and gives accounts up to period 0",
        "also: the quorum is 2 cosignatures, and 0 liars may be among the verifiers",
        "welcome: Highmark (highmark) joined as a party",
        "welcome: Zephyr Laboratory (zephyr) joined as a lab of highmark",
        "welcome: zephyr gives accounts from period 2 on",
        "welcome: the quorum is 2 cosignatures, and 0 liars may be among the verifiers",
    ]
    said = export_agreement(world.state)
    assert [party["party"] for party in said["parties"]] == ["norland", "westmere", "highmark"]
    assert said["former"] == ["eastholm", "meridian", "sudland"]
    assert [(act["commitment"], act["kind"]) for act in said["acts"]] == [
        ("leave", "exit"),
        ("also", "exit"),
        ("welcome", "accession"),
    ]


def test_amended_terms_are_told_as_they_are_now(run_audit: Audit, tmp_path: Path) -> None:
    """SPEC audit-27: in the report of a whole audit, and in its JSON."""
    world = MembershipWorld(caps=[CAP])
    world.perform(
        world.amendment(
            "change",
            timing={"tick": "20 s", "tolerance": "2 s", "unwitnessed": "2 h"},
            margins={"framework-count": "1 %"},
            resolution={"indeterminate_periods": 4},
            cap=[{**CAP, "limit": "5e11 FLOP"}],
        ),
        world.start(0) + 10_000,
    )
    world.perform(world.accession("welcome", labs=[new_lab("zephyr", "norland")]), world.start(0) + 40_000)
    result = run_audit(PublishedLog(world, tmp_path))
    assert result.status == Exit.COMPLIANT
    report = write_report(result)
    for sentence in (
        "by change: the log ticks every 20 s, clocks may differ by 2 s, and an entry may stay unwitnessed for 2 h",
        "by change: methods admitted, each with the widest margin it may state: framework-count 1 %",
        "by change: what the margins leave undecided for 4 periods counts as exceeded",
        "by change: cap lab: each lab in 2 periods together may use 5e11 FLOP",
        "by welcome: Zephyr Laboratory (zephyr) joined as a lab of norland",
        "Zephyr Laboratory (zephyr, norland): no account yet",
    ):
        assert sentence in report
    assert [act["commitment"] for act in export(result)["record"]["agreement"]["acts"]] == ["change", "welcome"]


def test_a_log_without_acts_says_nothing_of_them(run_audit: Audit, compliant: PublishedLog) -> None:
    assert "Agreement in force" not in write_report(run_audit(compliant))


def test_what_could_not_be_done_any_more_is_told(run_audit: Audit, tmp_path: Path) -> None:
    """SPEC commitments-46, SPEC audit-17."""
    world = MembershipWorld()
    for ident in ("one", "two"):
        world.agree(world.accession(ident, labs=[new_lab("zephyr", "norland")]), world.start(0) + 10_000)
    world.to(world.start(0) + 30_000)
    report = write_report(run_audit(PublishedLog(world, tmp_path)))
    assert report.count("but it could not be done any more, and nothing has changed by it") == 1
    assert report.count("joined as a lab of norland") == 1


@pytest.mark.parametrize("name", ["Evil\u202eland", "a\u2066b"])
def test_names_of_newcomers_are_escaped(name: str) -> None:
    """A name comes from the log, and whoever wrote it wants to be read otherwise."""
    world = MembershipWorld()
    lab = new_lab("zephyr", "norland")
    world.perform(world.accession("welcome", labs=[lab]), world.start(0) + 10_000)
    [done] = world.state.acts
    assert isinstance(done.act, Accession)
    hostile = replace(
        done.act, labs=(replace(lab, name=name),)
    )  # documents refuse such names; a report does not rely on it
    world.state.acts = [replace(done, act=hostile)]
    for sentence in tell_agreement(world.state):
        assert name not in sentence
        assert sentence.isascii()
