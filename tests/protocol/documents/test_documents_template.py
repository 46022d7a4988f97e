"""Writing documents, and saying in words what they say."""

from __future__ import annotations

import re

import pytest
from agreements import TEMPLATE, build_document
from hypothesis import given
from hypothesis import strategies as st

from pacekeeper.protocol.documents.agreement import Agreement, compile_agreement
from pacekeeper.protocol.documents.describe import describe_agreement, exact_flop
from pacekeeper.protocol.documents.model import Cap
from pacekeeper.protocol.documents.template import (
    fill_template,
    format_cap,
    format_lab,
    format_log,
    format_party,
    placeholders,
)
from pacekeeper.protocol.units import UINT64_MAX, parse_flop

CAPS = (
    {"id": "run", "kind": "run", "limit": "1.25e24 FLOP", "subjects": ["borealis"]},
    {"id": "lab", "kind": "lab", "limit": "18446744073709551615e9 FLOP", "window": "1 period"},
    {"id": "party", "kind": "party", "limit": "1e9 FLOP", "window": "30 periods"},
)


def agreement() -> Agreement:
    return compile_agreement(build_document(caps=CAPS)[0])


def test_written_tables_are_the_documents_own_text() -> None:
    """format and parse are inverse: every table of a compiled agreement is written as it was read."""
    compiled = agreement()
    text = compiled.document.decode()
    assert format_log(compiled.log) in text
    assert all(format_party(party) in text for party in compiled.parties)
    assert all(format_lab(lab) in text for lab in compiled.labs)


def test_written_caps_compile_to_themselves() -> None:
    compiled = agreement()
    document = compiled.document.decode()
    start = document.index("[[cap]]")
    written = "\n\n".join(format_cap(cap) for cap in compiled.caps)
    again = document[:start] + written + document[document.index("\n```", start) :]
    assert compile_agreement(again.encode()).caps == compiled.caps


@given(st.integers(0, UINT64_MAX))
def test_exact_flop_loses_nothing(gflop: int) -> None:
    assert parse_flop(exact_flop(gflop)) == gflop


def test_exact_flop_is_short_where_it_can_be() -> None:
    assert exact_flop(10**15) == "1e24 FLOP"
    assert exact_flop(12345) == "1.2345e13 FLOP"
    assert exact_flop(0) == "0 FLOP"
    assert exact_flop(UINT64_MAX) == "18446744073709551615e9 FLOP"


def test_a_template_is_filled_completely_or_not_at_all() -> None:
    assert fill_template("a {{x}} b {{x}}{{y}}", {"x": "{{y}}", "y": "2"}) == "a {{y}} b {{y}}2"
    with pytest.raises(ValueError, match="no value for \\['y'\\]"):
        fill_template("{{x}}{{y}}", {"x": "1"})
    with pytest.raises(ValueError, match="no place for \\['z'\\]"):
        fill_template("{{x}}", {"x": "1", "z": "1"})


def test_text_that_would_break_out_of_a_term_is_not_written() -> None:
    for text in ('a"b', "a\\b", "a\nb"):
        with pytest.raises(ValueError, match="cannot stand in a term"):
            format_cap(Cap(text, "run", 1, 0, ()))


def test_the_published_template_has_articles_for_what_it_must_say() -> None:
    """Purpose, definitions, calendar, verifiers and quorum, accounting, caps, log, margins, force, and its limits."""
    text = TEMPLATE.read_text(encoding="utf-8")
    titles = re.findall(r"^## Article \d+\. (.*)$", text, re.MULTILINE)
    assert titles == [
        "Purpose",
        "Definitions",
        "Calendar",
        "Parties and Verifiers",
        "Quorum",
        "Labs",
        "Accounting",
        "Log",
        "Caps",
        "Entry into force",
        "Findings and violations",
        "What this Agreement cannot show",
    ]
    assert {"party_tables", "lab_tables", "cap_tables", "log_table", "period"} < placeholders(text)


def test_describe_says_quorum_caps_and_margins_in_plain_sentences() -> None:
    sentences = describe_agreement(agreement())
    assert "Quorum 3 of 4 verifiers: tolerates 1 liar and 1 absence." in sentences
    assert "Cap run: each run with its ancestors may use 1.25e24 FLOP, for borealis only." in sentences
    assert "Cap lab: each lab in 1 period together may use 18446744073709551615e9 FLOP." in sentences
    assert "Methods admitted, each with the widest margin it may state: framework-count 5 % and chip-time 60 %." in (
        sentences
    )
    assert any("Westmere (westmere)" in sentence and "answers for no lab" in sentence for sentence in sentences)
    assert all(sentence.endswith(".") for sentence in sentences)


def test_describe_counts_in_the_right_number() -> None:
    sentences = describe_agreement(compile_agreement(build_document(parties=1, labs=1)[0]))
    assert "Quorum 1 of 1 verifier: tolerates 0 liars and 0 absences." in sentences
