"""`commitment simulate`: the example of the specification, executed, and options that make no plan."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import pytest
from commitment_templates import fill
from commitments import build_commitment
from vectors import ROOT

from pacekeeper.cli.commitments.foresight import describe_collapse
from pacekeeper.protocol.commitments.pledges import Alternatives, Collapse, Roll, bound_set, satisfied
from pacekeeper.protocol.commitments.wording import parse_condition
from pacekeeper.protocol.documents.commitment import compile_commitment

Run = Callable[..., Any]
Must = Callable[..., str]

SPEC = ROOT / "specs" / "cli.md"
_BLOCK = re.compile(r"^```simulate\n\$ pacekeeper (.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FROM = ("--from", "2026-01-01T00:00:00Z")


@pytest.fixture
def draft(founding: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The triggered pause for one lab, where the specification's command finds it."""
    monkeypatch.chdir(founding.root)
    path = Path("self-improvement.md")
    title = "A pause if research comes to be automated"
    path.write_bytes(fill("triggered-pause", id="self-improvement", title=title, labs="1", lab_reporters='"borealis"'))
    return path


def test_the_example_of_the_specification(must: Must, draft: Path) -> None:
    """SPEC cli-19, on the triggered pause. PACEKEEPER_WRITE_VECTORS=1 writes it anew."""
    text = SPEC.read_text(encoding="utf-8")
    match = _BLOCK.search(text)
    assert match is not None
    said = must(*shlex.split(match[1]))
    if os.environ.get("PACEKEEPER_WRITE_VECTORS") == "1":
        SPEC.write_text(text[: match.start(2)] + said + text[match.end(2) :], encoding="utf-8")
        return
    assert said == match[2]


PLEDGES = {
    "norland": "parties>=3",
    "sudland": "with norland|parties>=4",
    "eastholm": "with westmere",
    "borealis": "with norland",
    "westmere": "",
}


def test_the_collapse_sets_are_those_of_brute_force(must: Must, draft: Path) -> None:
    """SPEC cli-19."""
    options = [word for who, when in PLEDGES.items() for word in ("--pledge", f"{who}:{when}" if when else who)]
    foreseen = json.loads(must("commitment", "simulate", draft, "--bundle", "bundle", *FROM, *options, "--json"))
    rule = compile_commitment(draft.read_bytes()).entry.rule
    roll = Roll(dict.fromkeys(["norland", "sudland", "eastholm", "westmere"], 1), {"borealis": "norland"})
    pledges: dict[str, Alternatives] = {
        who: tuple(parse_condition(part) for part in when.split("|")) if when else () for who, when in PLEDGES.items()
    }
    failing = [
        set(exits)
        for exits in chain.from_iterable(combinations(sorted(pledges), size) for size in range(6))
        if not satisfied(rule, roll, bound_set(roll, {w: p for w, p in pledges.items() if w not in exits}))
    ]
    minimal = [sorted(exits) for exits in failing if not any(other < exits for other in failing)]
    assert foreseen["collapse"] == {"sets": minimal, "complete": True, "listed": 0, "limit": 1_000}
    assert sorted(foreseen["bound"]) == sorted(PLEDGES)


def test_what_falls_short_says_so(must: Must, draft: Path) -> None:
    options = ("--pledge", "norland:parties>=3", "--pledge", "atlantis", "--pledge", "sudland")
    said = must("commitment", "simulate", draft, "--bundle", "bundle", *FROM, *options)
    assert "  now failed" in said
    assert "  never bound: norland, sudland\n" in said
    soon = ("--until", "2026-01-02T00:00:00Z")
    said = must("commitment", "simulate", draft, "--bundle", "bundle", *FROM, *options, *soon)
    assert "  now open for pledges until " in said
    assert "  pledge of norland, if parties>=3: not bound\n" in said
    assert "  refused: pledge by atlantis: " in said
    assert "  nobody's: the conditions are not met by those who pledged\n" in said
    assert "      nothing is constrained\n" in said


def test_reports_withdrawals_and_votes_are_played(must: Must, draft: Path) -> None:
    pledges = [word for who in PLEDGES for word in ("--pledge", who)]
    reports = [
        word
        for month in ("02-20", "03-22", "04-21")
        for word in (
            "--report", f"merged-code:borealis:85.5 %@2026-{month}T00:00:00Z",
            "--report", f"task-horizon:westmere:13 h@2026-{month}T00:00:00Z",
        )
    ]  # fmt: skip
    rest = ("--withdraw", "eastholm@2026-05-01T00:00:00Z", "--until", "2026-06-01T00:00:00Z")
    lifts = [word for who in ("norland", "sudland", "westmere") for word in ("--lift", f"{who}@2026-05-02T00:00:00Z")]
    said = must("commitment", "simulate", draft, "--bundle", "bundle", *FROM, *pledges, *reports, *rest, *lifts)
    assert "2026-04-21T00:00:00Z: the triggers are met; in force" in said
    assert "2026-05-01T00:00:00Z: eastholm gives notice of withdrawal" in said
    assert "2026-05-02T00:00:00Z: lifted; the next stage of its ramp begins" in said
    assert "runs above 4e24 FLOP hold" in said
    assert "now ended (lifted)" in said


def test_who_is_not_clean_is_not_bound(must: Must, draft: Path) -> None:
    path = Path("pause.md")
    path.write_bytes(fill("pause", labs="1"))
    options = [word for who in PLEDGES for word in ("--pledge", who)]
    clean = must("commitment", "simulate", path, "--bundle", "bundle", *FROM, *options)
    assert "pledge of borealis, in any case: bound" in clean
    unclean = must("commitment", "simulate", path, "--bundle", "bundle", *FROM, *options, "--clean", "borealis:2")
    assert "pledge of borealis, in any case: not bound" in unclean


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--pledge", "norland:parties>3"), '--pledge "norland:parties>3": '),
        (("--pledge", "norland:"), '--pledge "norland:": '),
        (("--pledge", "norland@soon"), '--pledge "norland@soon": '),
        (("--pledge", "norland@2025-01-01T00:00:00Z"), "before the simulation begins"),
        (("--pledge", "norland", "--report", "x:y"), "expected INDICATOR:REPORTER:VALUE UNIT"),
        (("--pledge", "norland", "--report", "x:borealis:1.2.3 %"), "a value is a decimal number"),
        (("--pledge", "norland", "--clean", "norland:many"), "expected ID:PERIODS"),
        (("--pledge", "norland", "--until", "never"), "--until: "),
        (("--pledge", "norland", "--proposer", "atlantis"), "(unknown-participant)"),
        (("--pledge", "norland\x1b:x"), "norland\\u{1b}:x"),
    ],
)
def test_what_is_no_plan_is_a_sentence(pacekeeper: Run, draft: Path, options: tuple[str, ...], said: str) -> None:
    """SPEC cli-1, SPEC cli-2."""
    outcome = pacekeeper("commitment", "simulate", draft, "--bundle", "bundle", *FROM, *options)
    assert (outcome.status, outcome.out) == (2, ""), outcome
    assert said in outcome.err


def test_a_document_that_does_not_compile_is_named_with_its_line(pacekeeper: Run, draft: Path) -> None:
    """SPEC cli-5."""
    draft.write_text(draft.read_text().replace('wind_down = "6 h"', 'wind_down = "6"'))
    outcome = pacekeeper("commitment", "simulate", draft, "--bundle", "bundle", *FROM, "--pledge", "norland")
    assert (outcome.status, outcome.out) == (2, "")
    assert "self-improvement.md: line " in outcome.err


def test_a_search_that_was_cut_says_so() -> None:
    """SPEC cli-19."""
    sets = (frozenset({"a"}), frozenset({"b", "c"}))
    for listed, said in (
        (0, "there may be others"),
        (1, "every set of up to 1 member is listed, larger ones may be missing"),
        (2, "every set of up to 2 members is listed, larger ones may be missing"),
    ):
        cut = list(describe_collapse(Collapse(sets, complete=False, listed=listed)))
        assert cut == ["a", "b and c", f"(the search was cut at 2 sets: {said})"]
    assert list(describe_collapse(Collapse((), complete=False))) == ["(the search was cut at 0 sets: it is not known)"]
    assert list(describe_collapse(Collapse((frozenset("abcdef"),), complete=False, listed=3)))[1:] == [
        "(the search was cut at 1 set: no exit of up to 3 participants would, of more it is not known)"
    ]
    assert list(describe_collapse(Collapse((), complete=True))) == ["nobody's"]
    many = [frozenset({f"lab-{number}"}) for number in range(100)]
    assert "and 60 sets more, which --json lists" in list(describe_collapse(Collapse(tuple(many), complete=True)))


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("growth", ["compute of 30 periods at most 5 % over the 90 periods before, and 1e22 FLOP in any case"]),
        ("cap", ["Cap extra: each lab in 30 periods together may use 1e24 FLOP"]),
    ],
)
def test_a_simulation_tells_what_gates_would_be_told_of_growth_limits_and_caps(
    must: Must, founding: Any, tmp_path: Path, kind: str, told: list[str]
) -> None:
    """SPEC commitments-67, SPEC commitments-40."""
    path = tmp_path / "measure.md"
    path.write_bytes(build_commitment(kind, "measure"))
    bundle = founding.root / "bundle"
    pledges = [part for party in ("norland", "sudland") for part in ("--pledge", party)]
    until = ("--until", "2026-02-01T00:00:00Z")
    said = must("commitment", "simulate", path, "--bundle", bundle, *pledges, *FROM, *until, "--json")
    gates = json.loads(said)["gates"]
    assert [seen["told"] for seen in gates["borealis"]] == [["nothing is constrained"], told]
