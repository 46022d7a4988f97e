"""Commitments' documents: what they compile to, and each refusal of the linter with a document that triggers it.

PACEKEEPER_WRITE_VECTORS=1 writes the vectors anew; without it they must be as the code says.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import pytest
from agreements import edit
from commitment_templates import fill
from commitments import ENTRY, MEMBERS, TRIGGERS, build_commitment, compiled
from vectors import VECTORS, check_file, check_json

from pacekeeper.protocol.documents.commitment import DocumentError, compile_commitment
from pacekeeper.protocol.documents.commitment_lint import lint_commitment
from pacekeeper.protocol.documents.commitment_model import Growth, Kind, Pause, SlowDown
from pacekeeper.protocol.documents.model import Quorum

FOLDER: Final = VECTORS / "commitments"

PAUSE: Final = b"""# Joint pause above a threshold

## Article 1. Purpose

```toml
[commitment]
id = "joint-pause"
title = "Joint pause above a threshold"
kind = "pause"
```

## Article 2. What stops and what goes on

Every run whose compute exceeds 10^24 FLOP holds within 6 hours. Evaluation goes on within 1e21 FLOP.

```toml
[pause]
above = "1e24 FLOP"
wind_down = "6 h"

[[exemption]]
id = "evaluation"
category = "evaluation"
budget = "1e21 FLOP"
window = "30 periods"

[lease]
lease = "1 h"
on_lease_end = "hold"
```

## Article 3. Entry into force

This Commitment enters into force 30 days after three Parties with at least 55 percent of the weight have pledged. The
pledges are made by 1 March 2026.

```toml
[entry]
parties = 3
labs = 2
named = ["norland"]
weight = "55 %"
clean_periods = 3
pledges_by = "2026-03-01T00:00:00Z"
delay = "30 d"
effective = "2026-04-01T00:00:00Z"
lapses = "2026-06-01T00:00:00Z"
notice = "1 h"

[[weight]]
party = "norland"
weight = 3

[[weight]]
party = "sudland"
weight = 2
```

## Article 4. Triggers

It applies while two families of indicators are at their levels in three reports in a row.

```toml
[triggers]
families = 2
when_below = "end"

[[indicator]]
id = "merged-code"
family = "automation"
source = "lab"
on = "80 %"
off = "70 %"
reports = 3
every = "30 d"
grace = "15 d"
reporters = ["borealis", "meridian"]

[[indicator]]
id = "task-horizon"
family = "horizon"
source = "external"
on = "12 h"
off = "8 h"
reports = 3
every = "30 d"
grace = "15 d"
reporters = ["sudland"]
```

## Article 5. Term, lifting and withdrawal

It lasts two years, and can be extended once by one year. Each stage lasts 30 days.

```toml
[term]
length = "730 d"
minimum = "90 d"
requires = "entry-rule"

[term.extension]
parties = 3
length = "365 d"
times = 1

[lifting]
parties = 2

[[stage]]
above = "2e24 FLOP"
lasts = "30 d"

[withdrawal]
before_entry = "allowed"
cut_off = "7 d"
notice = "90 d"
not_before = "180 d"
reason = "required"
ends = "own"

[breach]
response = "release-others"
```
"""

WEIGHTS: Final = 'weight = 3\n\n[[weight]]\nparty = "sudland"\nweight = 2'

# (rule, why it is here, what is replaced (first occurrence), by what)
EDITS: Final = [
    (
        "commitments-2",
        "a rate in a commitment to pause",
        "[pause]\nabove",
        '[slow-down]\nrate = "1 FLOP/s"\n[pause]\nabove',
    ),
    ("commitments-3", "a share of nothing", WEIGHTS, WEIGHTS.replace("= 3", "= 0").replace("= 2", "= 0")),
    ("commitments-3", "two weights of one party", 'party = "sudland"', 'party = "norland"'),
    ("commitments-6", "in effect before those bound are known", "2026-04-01", "2026-02-01"),
    ("commitments-6", "lapsed before it takes effect", "2026-06-01", "2026-03-20"),
    ("commitments-6", "two ends", 'length = "730 d"\n', 'length = "730 d"\nexpires = "2028-01-01T00:00:00Z"\n'),
    ("commitments-6", "a minimum longer than the term", 'minimum = "90 d"', 'minimum = "800 d"'),
    ("commitments-7", "one family decides", "families = 2", "families = 1"),
    ("commitments-7", "labs alone decide what binds them", 'source = "external"', 'source = "lab"'),
    ("commitments-7", "on and off at once", 'off = "70 %"', 'off = "90 %"'),
    ("commitments-7", "levels that cannot be compared", 'off = "8 h"', 'off = "8 d"'),
    ("commitments-7", "external by one indicator and not by another", 'family = "horizon"', 'family = "automation"'),
    ("commitments-8", "a ramp that tightens", '2e24 FLOP"\nlasts', '5e23 FLOP"\nlasts'),
    ("commitments-10", "named, and no participant", 'named = ["norland"]', 'named = ["nowhere"]'),
    ("commitments-10", "weighed, and no party", 'party = "sudland"', 'party = "borealis"'),
    ("commitments-11", "more labs than there are", "labs = 2", "labs = 5"),
    ("commitments-11", "nobody could lift it", "[lifting]\nparties = 2", "[lifting]\nparties = 9"),
    ("commitments-11", "nobody could extend it", "[term.extension]\nparties = 3", "[term.extension]\nparties = 5"),
    ("commitments-12", "a report that nobody could make", '["sudland"]', '["borealis"]'),
    ("commitments-13", "a gate could miss the beginning", 'lease = "1 h"', 'lease = "8 h"'),
    ("commitments-15", "the prose says another compute", "10^24 FLOP", "10^25 FLOP"),
    ("commitments-15", "the prose says another time", "within 6 hours", "within 8 hours"),
    ("commitments-15", "the prose says another number of parties", "three Parties", "four Parties"),
    ("commitments-15", "the prose says another share", "55 percent", "60 percent"),
    ("commitments-15", "the prose says another date", "1 March 2026", "1 May 2026"),
    ("commitments-15", "the prose says another number of reports", "three reports", "two reports"),
    ("commitments-15", "the prose says another term", "lasts two years", "lasts ten years"),
    ("documents-10", "a term that software ignores", "[breach]", '[breach]\nfine = "1 FLOP"'),
    ("documents-12", "a limit without unit", 'above = "1e24 FLOP"', 'above = "1e24"'),
    ("documents-12", "a rate of nothing is a pause", 'kind = "pause"', 'kind = "stop"'),
]


def refusals() -> list[dict[str, Any]]:
    found = []
    for rule, why, old, new in EDITS:
        document, _ = edit(PAUSE, old, new)
        try:
            compile_commitment(document, MEMBERS)
        except DocumentError as error:
            found.append(
                {"rule": rule, "why": why, "replace": old, "by": new, "line": error.line, "message": error.message}
            )
    return found


def whole_documents() -> list[dict[str, Any]]:
    """Refusals that no small edit of one document shows."""
    accession = {"lab": [{"id": "borealis", "name": "B", "party": "norland", "key": KEY, "tls_spki": PIN}]}
    new_key = {"role": "lab", "holder": "nobody", "epoch": 2, "key": KEY}
    cases: list[tuple[str, str, bytes]] = [
        ("commitments-4", "it would never end", build_commitment(without=["term", "lifting"])),
        ("commitments-5", "an act with a term", build_commitment("exit", term={"length": "1 d"})),
        ("commitments-5", "an act that can be left", build_commitment("exit", withdrawal={"notice": "1 d"})),
        ("commitments-5", "an accession of nobody", build_commitment("accession")),
        ("commitments-5", "an amendment of nothing", build_commitment("amendment", without=["timing"])),
        ("commitments-8", "a ramp that nothing begins", build_commitment(without=["lifting"], stage=STAGE)),
        ("commitments-8", "stages of a cap", build_commitment("cap", stage=STAGE)),
        ("commitments-6", "an extension of what has no end", build_commitment(term={"extension": EXTENSION})),
        (
            "commitments-10",
            "a scope of strangers",
            build_commitment(scope={"parties": ["norland", "sudland"], "labs": ["nowhere"]}),
        ),
        ("commitments-10", "a scope of nobody", build_commitment(scope={})),
        ("commitments-11", "more than the scope lets pledge", build_commitment(scope={"parties": ["norland"]})),
        ("commitments-11", "more parties than there are", build_commitment(entry={"parties": 5})),
        ("commitments-6", "it lapses while the delay still runs", build_commitment(entry=LAPSING)),
        ("commitments-7", "three families of two", build_commitment(more={**TRIGGERS, "triggers": THREE})),
        ("commitments-11", "an entry that asks for nobody", build_commitment(entry={"parties": None})),
        ("commitments-14", "who accedes is there already", build_commitment("accession", more=accession)),
        ("commitments-14", "who leaves is not there", build_commitment("exit", more={"exit": {"party": "nowhere"}})),
        ("commitments-14", "a key for nobody", build_commitment("keys", more={"key": [new_key]})),
        ("documents-18", "two exemptions of one name", build_commitment(exemption=[EXEMPTION, EXEMPTION])),
        ("commitments-25", "reasons for what is never allowed", build_commitment(withdrawal=REASONED)),
    ]
    found = []
    for rule, why, document in cases:
        try:
            compile_commitment(document, MEMBERS)
        except DocumentError as error:
            text = document.decode()
            found.append({"rule": rule, "why": why, "document": text, "line": error.line, "message": error.message})
    assert len(found) == len(cases), "every document is refused"
    return found


KEY: Final = "ed25519:WGZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY="
PIN: Final = "sha256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
LAPSING: Final = {"delay": "10 d", "lapses": "2026-03-10T00:00:00Z"}
THREE: Final = {"families": 3, "when_below": "arm"}
STAGE: Final = [{"above": "2e24 FLOP", "lasts": "30 d"}]
EXTENSION: Final = {"parties": 2, "length": "50 d", "times": 1}
EXEMPTION: Final = {"id": "evaluation", "category": "evaluation", "budget": "1e21 FLOP"}
REASONED: Final = {"notice": None, "reason": "required"}


def test_vectors_of_refusals_are_as_the_code_says() -> None:
    """SPEC commitments-1: each refusal names its line."""
    found = refusals()
    assert len(found) == len(EDITS), "every edit is refused"
    check_file(FOLDER / "document.md", PAUSE)
    check_json(FOLDER / "refusals.json", found)
    check_json(FOLDER / "refused-documents.json", whole_documents())


def test_vectors_of_terms_are_as_the_code_says() -> None:
    terms = dataclasses.asdict(compile_commitment(PAUSE, MEMBERS))
    del terms["document"]

    def plain(value: object) -> object:
        if isinstance(value, frozenset):
            return sorted(value)
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    check_json(FOLDER / "document.json", {"why": "every term of document.md, compiled", **plain(terms)})  # type: ignore[dict-item]


@pytest.mark.parametrize("vector", refusals(), ids=lambda vector: vector["why"])
def test_each_refusal_is_near_its_edit_or_names_the_other_term(vector: dict[str, Any]) -> None:
    """SPEC commitments-2, SPEC commitments-3, SPEC commitments-6, SPEC commitments-7, SPEC commitments-8,
    SPEC commitments-10, SPEC commitments-11, SPEC commitments-12, SPEC commitments-13, SPEC commitments-15."""
    document, line = edit(PAUSE, vector["replace"], vector["by"])
    lines = document.decode().split("\n")
    assert ("in the text" in vector["message"]) == (vector["rule"] == "commitments-15")
    assert vector["line"] <= len(lines)
    if vector["rule"] in ("commitments-10", "commitments-11", "commitments-12", "commitments-15"):
        assert line <= vector["line"] <= line + 2, vector
    errors = [problem.line for problem in lint_commitment(document, MEMBERS) if problem.severity == "error"]
    assert min(errors) == vector["line"]


def test_refused_documents_show_what_acts_and_ends_need() -> None:
    """SPEC commitments-4, SPEC commitments-5, SPEC commitments-14."""
    assert all(vector["message"] for vector in whole_documents())


def test_what_a_document_compiles_to() -> None:
    terms = compile_commitment(PAUSE, MEMBERS)
    assert (terms.kind, terms.measure) == (Kind.PAUSE, Pause(10**15, 6 * 3_600_000))
    assert terms.release_others
    assert compiled(build_commitment("slow-down")).measure == SlowDown(10**9, 3_600_000)
    assert compiled(build_commitment("growth")).measure == Growth(30, 90, 50_000, 10**13, 0)


def test_the_quorum_that_an_act_leaves_is_one() -> None:
    """SPEC commitments-45: with 4 parties, 3 and 1; an accession makes 5, an exit 3."""
    members = dataclasses.replace(MEMBERS, quorum=Quorum(4, 3, 1))
    for name, few in (("accession", "3"), ("exit", "1")):
        assert compile_commitment(fill(name), members).act is not None
        for document in (fill(name, quorum=few), fill(name).replace(b"[quorum]", b"[timing]")):
            with pytest.raises(DocumentError):
                compile_commitment(document, members)
    with pytest.raises(DocumentError):
        compile_commitment(build_commitment("exit"), members)
    with pytest.raises(DocumentError):
        compile_commitment(build_commitment("amendment", quorum={"quorum": 4, "liars": 1}), members)
    compile_commitment(build_commitment("amendment", entry={"parties": 3}), members)


def test_what_changes_everybodys_agreement_is_decided_by_a_quorum() -> None:
    """SPEC commitments-56: by number or by name; a party leaves also by its own decision, but nobody else's."""
    members = dataclasses.replace(MEMBERS, quorum=Quorum(4, 3, 1))
    three = ["norland", "sudland", "westmere"]
    leave: dict[str, Any] = {"exit": {"party": "eastholm"}, "quorum": {"quorum": 2, "liars": 0}}
    kinds: list[tuple[str, dict[str, Any]]] = [("amendment", {}), ("exit", leave)]
    for kind, tables in kinds:
        enough: list[dict[str, Any]] = [
            {"parties": 3},
            {"parties": None, "named": three},
            {"parties": 1, "named": three},
        ]
        few: list[dict[str, Any]] = [{"parties": 2}, {"parties": None, "labs": 4}, {"parties": 2, "named": three[:2]}]
        for entry in enough:
            compile_commitment(build_commitment(kind, entry=entry, **tables), members)
        for entry in few:
            with pytest.raises(DocumentError, match="at least a quorum of the parties, 3"):
                compile_commitment(build_commitment(kind, entry=entry, **tables), members)
    compile_commitment(build_commitment("exit", entry={"parties": None, "named": ["eastholm"]}, **leave), members)
    with pytest.raises(DocumentError, match="at least a quorum"):
        compile_commitment(build_commitment("exit", entry={"parties": None, "named": ["norland"]}, **leave), members)


def test_without_members_a_document_is_checked_by_itself() -> None:
    assert compile_commitment(build_commitment(entry={"parties": 30})).entry.rule.parties == 30
    with pytest.raises(DocumentError):
        compile_commitment(build_commitment(without=["term", "lifting"]))


def test_the_linter_warns_of_what_may_not_be_meant() -> None:
    document = build_commitment(entry={"named": ["norland"], "parties": None}, withdrawal={"cut_off": None})
    messages = [problem.message for problem in lint_commitment(document, MEMBERS)]
    assert any("each of those named" in message for message in messages)
    assert any("cut_off" in message for message in messages)
    assert any("lease" in message for message in messages)
    assert any("nobody can lift" in p.message for p in lint_commitment(build_commitment(without=["lifting"])))
    assert lint_commitment(b"\xff")[0].severity == "error"
    assert all(problem.severity == "warning" for problem in lint_commitment(build_commitment("exit"), MEMBERS))


def test_the_linter_says_which_budgets_nobody_judges() -> None:
    """SPEC conduct-12: accounts have operations for training alone."""
    rows = [
        {"id": each, "category": each, "budget": "1e20 FLOP"}
        for each in ("training", "evaluation", "inference", "synthetic-data")
    ]
    document = build_commitment(exemption=rows)
    warned = [problem for problem in lint_commitment(document, MEMBERS) if "nothing judges" in problem.message]
    assert [problem.message.split()[6] for problem in warned] == ["evaluation,", "inference,", "synthetic-data,"]
    lines = document.decode().splitlines()
    assert all(lines[problem.line - 1].startswith("budget") for problem in warned)


def hasty(kind: str, wind_down: str, **more: Any) -> bytes:
    measures = {"pause": {"above": "1e20 FLOP"}, "slow-down": {"rate": "1e20 FLOP/s"}}
    entry = {"delay": "4 s", "notice": "3 s"}
    return build_commitment(kind, entry=entry, more={kind: {**measures[kind], "wind_down": wind_down}, **more})


@pytest.mark.parametrize("kind", ["pause", "slow-down"])
def test_what_bites_before_every_clock_can_know_of_it_is_refused_from_version_3_on(kind: str) -> None:
    """SPEC commitments-70: and compiles under version 2 as it always did."""
    third = dataclasses.replace(MEMBERS, rules_version=3)
    assert compile_commitment(hasty(kind, "5 s"), MEMBERS).id == "pause"
    assert compile_commitment(hasty(kind, "6 s"), third).id == "pause"
    with pytest.raises(DocumentError, match="delay and wind-down are 9 s, the tolerance 10 s") as caught:
        compile_commitment(hasty(kind, "5 s"), third)
    assert hasty(kind, "5 s").decode().splitlines()[caught.value.line - 1].startswith("wind_down")
    with pytest.raises(DocumentError, match="notice and wind-down are 9 s"):
        compile_commitment(hasty(kind, "6 s", **TRIGGERS), third)


def test_the_linter_warns_of_what_leaves_a_command_no_time_to_end() -> None:
    """SPEC commitments-71, SPEC commitments-72: 63 s, as the gate gives, and the tolerance where it is known."""

    def warned(document: bytes, *members: Any) -> list[str]:
        return [problem.message.partition(":")[0] for problem in lint_commitment(document, *members or (MEMBERS,))]

    assert "wind_down" in warned(hasty("pause", "68 s"))
    assert "wind_down" not in warned(hasty("pause", "69 s"))
    assert "wind_down" in warned(hasty("slow-down", "58 s"), None)
    assert "wind_down" not in warned(hasty("slow-down", "59 s"), None)
    for at_end, lease, expected in (("hold", "63 s", True), ("hold", "64 s", False), ("continue", "63 s", False)):
        rows = {"lease": {"lease": lease, "on_lease_end": at_end}}
        assert ("lease" in warned(hasty("pause", "1 h", **rows))) == expected


def test_every_lint_error_is_listed_at_once() -> None:
    document = (
        PAUSE.replace(b"10^24", b"10^25").replace(b"three Parties", b"four Parties").replace(b"labs = 2", b"labs = 9")
    )
    errors = [problem for problem in lint_commitment(document, MEMBERS) if problem.severity == "error"]
    assert len(errors) == 3


def test_prose_counts_years_and_months_as_treaties_do() -> None:
    """SPEC commitments-15."""

    def with_prose(prose: str, delay: str) -> bytes:
        document = build_commitment(entry={**ENTRY, "delay": delay}, term={"length": "5000 d"}, more=TRIGGERS).decode()
        return document.replace("Terms\n", f"Terms\n\n{prose}\n", 1).encode()

    for prose, delay in (
        ("after 12 months", "365 d"),
        ("after one year", "366 d"),
        ("in 2 weeks", "14 d"),
        ("20 parts", "9 d"),
    ):
        compile_commitment(with_prose(prose, delay), MEMBERS)
    for prose, delay in (("after 12 months", "330 d"), ("after one year", "360 d"), ("on 31 February 2026", "9 d")):
        with pytest.raises(DocumentError):
            compile_commitment(with_prose(prose, delay), MEMBERS)
