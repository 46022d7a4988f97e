"""A commitment in plain words: every term of every kind is told, and hostile text in it is inert."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from commitment_templates import fill
from commitments import TRIGGERS, build_commitment, compiled

from pacekeeper.protocol.documents.commitment import compile_commitment
from pacekeeper.protocol.documents.commitment_describe import describe_commitment, describe_tables
from pacekeeper.protocol.documents.commitment_model import CONSTRAINING, Commitment, Kind
from pacekeeper.protocol.text import is_plain
from pacekeeper.protocol.tlog.vkey import NoteKey

KEY = "ed25519:o3lbM5sZciMYZFCp+Ocj/mcG3KndNV0QwPPdeZJbyNw="
CAPS = [{"id": "extra", "kind": "lab", "limit": "1e24 FLOP", "window": "30 periods", "subjects": ["borealis"]}]
FULL_ENTRY = {
    "labs": 1,
    "named": ["norland"],
    "weight": "55 %",
    "clean_periods": 2,
    "effective": "2026-04-01T00:00:00Z",
    "lapses": "2026-06-01T00:00:00Z",
}
EVERYTHING: dict[str, Any] = {
    "scope": {"parties": ["norland", "sudland"], "labs": ["zephyr"]},
    "entry": FULL_ENTRY,
    "weight": [{"party": "norland", "weight": 40}, {"party": "sudland", "weight": 30}],
    "exemption": [{"id": "tests", "category": "evaluation", "budget": "1e21 FLOP", "window": "30 periods"}],
    "term": {
        "length": "365 d",
        "minimum": "30 d",
        "requires": "entry-rule",
        "extension": {"parties": 2, "length": "90 d", "times": 3},
    },
    "withdrawal": {"not_before": "60 d", "reason": "required", "ends": "all"},
    "breach": {"response": "release-others"},
    "lease": {"lease": "1 h", "on_lease_end": "hold"},
    "more": TRIGGERS,
}
STAGES = {
    "pause": {"above": "4e24 FLOP", "lasts": "30 d"},
    "slow-down": {"rate": "2e18 FLOP/s", "lasts": "30 d"},
    "growth": {"growth": "15 %", "lasts": "30 d"},
}


def constraining(kind: str) -> Commitment:
    """A commitment of a kind with all the terms that it can have."""
    more: dict[str, Any] = dict(EVERYTHING)
    if kind in STAGES:
        more["stage"] = [STAGES[kind]]
    if kind == "growth":
        more["growth"] = {
            "window": "30 periods",
            "baseline": "90 periods",
            "growth": "5 %",
            "floor": "1e22 FLOP",
            "banking": "20 %",
            "debt": "50 %",
        }
    if kind == "cap":
        more["cap"] = CAPS
    if kind not in ("pause", "slow-down"):
        del more["lease"]
    return compiled(build_commitment(kind, **more))


def act(kind: str) -> Commitment:
    more: dict[str, Any] = {"entry": FULL_ENTRY, "weight": EVERYTHING["weight"], "scope": EVERYTHING["scope"]}
    if kind == "accession":
        return compile_commitment(fill("accession"))
    if kind == "exit":
        more["quorum"] = {"quorum": 2, "liars": 0}
    if kind == "amendment":
        more |= {
            "quorum": {"quorum": 3, "liars": 1},
            "cap": CAPS,
            "margins": {"framework-count": "2 %"},
            "resolution": {"indeterminate_periods": 4},
        }
    if kind == "keys":
        more["key"] = [{"role": "lab", "holder": "borealis", "epoch": 2, "key": KEY}]
    return compile_commitment(build_commitment(kind, **more))


COMMITMENTS = {str(kind): constraining(str(kind)) if kind in CONSTRAINING else act(str(kind)) for kind in Kind}
# What a kind cannot have, or what is no term: a document's own bytes, and the count of verifiers that follows from who
# is a party then.
NO_TERMS = {"document", "digest", "kind", "act.quorum.verifiers"}
OF_CONSTRAINTS = ("term", "lifting", "release_others", "lease", "triggers", "exemptions", "withdrawal.notice_ms",
                  "withdrawal.not_before_ms", "withdrawal.reasoned", "withdrawal.ends_all")  # fmt: skip
OTHERWISE = {"arm": "end", "entry-rule": "anyone", "lab": "party", "party": "verifier", "external": "lab", "log": "lab"}


def variants(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the same value with one leaf changed, for every leaf, with the path of the leaf."""
    if isinstance(value, NoteKey):
        yield path, dataclasses.replace(value, name=value.name + "x")
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            name = f"{path}.{field.name}".lstrip(".")
            for where, other in variants(getattr(value, field.name), name):
                yield where, dataclasses.replace(value, **{field.name: other})  # type: ignore[type-var]
    elif isinstance(value, Mapping):
        for key in value:
            for where, other in variants(value[key], f"{path}[{key}]"):
                yield where, {**value, key: other}
    elif isinstance(value, tuple):
        for at, item in enumerate(value):
            for where, other in variants(item, f"{path}[{at}]"):
                yield where, (*value[:at], other, *value[at + 1 :])
    elif isinstance(value, frozenset):
        yield path, value | {"another"}
    elif isinstance(value, bool):
        yield path, not value
    elif isinstance(value, int):
        yield path, value + 1
    elif isinstance(value, str):
        yield path, OTHERWISE.get(value, value + "x")
    elif isinstance(value, bytes):
        yield path, bytes([value[0] ^ 1]) + value[1:]
    else:
        assert value is None, path


@pytest.mark.parametrize("kind", COMMITMENTS)
def test_a_change_of_any_term_is_seen_in_the_words(kind: str) -> None:
    """SPEC commitments-76: leaf by leaf of the typed terms, so that a term which comes to be is told as well."""
    terms = COMMITMENTS[kind]
    said = describe_commitment(terms)
    seen = 0
    for path, changed in variants(terms, ""):
        if path in NO_TERMS or (kind not in CONSTRAINING and path.startswith(OF_CONSTRAINTS)):
            continue
        assert describe_commitment(changed) != said, f"{path} of {kind} is told nowhere"
        seen += 1
    assert seen > 12


@pytest.mark.parametrize("kind", COMMITMENTS)
def test_what_is_left_out_is_told_as_what_it_means(kind: str) -> None:
    """SPEC commitments-76: each optional part, taken away, changes the words too."""
    terms = COMMITMENTS[kind]
    said = describe_commitment(terms)
    parts: dict[str, Any] = {"triggers": None, "lease": None, "exemptions": (), "weights": {}}
    for name, nothing in parts.items():
        if getattr(terms, name) != nothing:
            assert describe_commitment(dataclasses.replace(terms, **{name: nothing})) != said, name
    for name in ("effective_ms", "lapses_ms"):
        if getattr(terms.entry, name) is not None:
            without: dict[str, Any] = {name: None}
            entry = dataclasses.replace(terms.entry, **without)
            assert describe_commitment(dataclasses.replace(terms, entry=entry)) != said, name
    if kind in CONSTRAINING:
        term = dataclasses.replace(terms.term, length_ms=None, extended_by=None)
        assert "It has no date on which it ends." in describe_commitment(dataclasses.replace(terms, term=term))
        leaving = dataclasses.replace(terms.withdrawal, notice_ms=None)
        assert "After that nobody can leave." in describe_commitment(dataclasses.replace(terms, withdrawal=leaving))
        lifting = dataclasses.replace(terms.lifting, by=None)
        assert "Nobody can lift it before its end." in describe_commitment(dataclasses.replace(terms, lifting=lifting))


def test_the_words_for_a_pause() -> None:
    """What a reader asks first, as one would say it."""
    said = describe_commitment(compile_commitment(fill("pause")))
    assert said[1:4] == [
        "A run holds whose compute, with its ancestors', is above 1e24 FLOP; it has 6 h to save its checkpoint.",
        "Exempt for each lab (evaluation): evaluation, up to 1e21 FLOP in any 30 periods.",
        "Exempt for each lab (inference): inference, up to 5e22 FLOP in any 30 periods.",
    ]
    assert (
        "It enters into force 30 d after this is bound: at least 3 parties and at least 2 labs by their own pledge."
        in said
    )
    assert "After that anyone may leave with 90 d of notice, with a statement of the reasons." in said


def test_hostile_text_is_inert() -> None:
    title = "Pause\u202e<script>\u200b"
    terms = dataclasses.replace(COMMITMENTS["pause"], title=title)
    assert all(is_plain(sentence, len(sentence)) for sentence in describe_commitment(terms))
    assert "\\u{202e}" in describe_commitment(terms)[0]


def test_each_sentence_has_a_table_that_a_document_may_have() -> None:
    known = {"commitment", "scope", "pause", "slow-down", "growth", "cap", "party", "lab", "exit", "quorum", "timing",
             "margins", "resolution", "key", "exemption", "entry", "weight", "triggers", "indicator", "term", "lifting",
             "stage", "withdrawal", "breach", "lease"}  # fmt: skip
    tables = {said.table for terms in COMMITMENTS.values() for said in describe_tables(terms)}
    assert tables == known
