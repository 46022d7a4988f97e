"""The shape of statements: every way in which one field can be outside its definition, and that the rest passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from agreements import signing_key
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from pacekeeper.protocol import limits
from pacekeeper.protocol.commitments.statements import CHECKS as COMMITMENT_CHECKS
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.readings import is_id
from pacekeeper.protocol.statements import STATEMENTS, parse_statement, payload_type, seal
from pacekeeper.protocol.text import is_plain, printable
from pacekeeper.v1 import envelope_pb2
from pacekeeper.v1 import statements_pb2 as pb

D = bytes(range(32))
KEY = signing_key("statements")


def estimate(method: Any = 1, amount: int = 5, margin: int = 0) -> pb.Estimate:
    return pb.Estimate(method=method, amount=amount, margin_ppm=margin)


def account() -> pb.PeriodAccount:
    return pb.PeriodAccount(
        period=3,
        figures=[
            pb.RunFigure(run="run-1", steps=1, chip_ms=1, estimates=[estimate(1), estimate(2, margin=600_000)]),
            pb.RunFigure(run="run-2", estimates=[estimate(2)]),
        ],
        time=[pb.CategoryTime(category=pb.CATEGORY_TRAINING, chip_ms=1), pb.CategoryTime(category=pb.CATEGORY_IDLE)],
        pools=[pb.AcceleratorPool(model="chip-a", count=1), pb.AcceleratorPool(model="chip-b", count=2)],
    )


def good() -> dict[str, Any]:
    second = seal(pb.Tick(agreement=D), [KEY])
    return {
        "agreement": pb.Agreement(document=b"# Text"),
        "tick": pb.Tick(agreement=D, index=7),
        "declaration": pb.RunDeclaration(
            agreement=D,
            lab="borealis",
            run="run-1",
            title="A run: naïve, 100 %",
            initial_state=pb.INITIAL_STATE_CHECKPOINT,
            initial_digest=D,
            parents=[3, 5],
        ),
        "attestation": pb.ComputeAttestation(
            agreement=D, lab="borealis", link=pb.Link(sequence=2, previous=D, as_of=9), account=account()
        ),
        "gap": pb.Gap(
            agreement=D,
            lab="borealis",
            link=pb.Link(sequence=1),
            first_period=4,
            last_period=6,
            reason=pb.GAP_REASON_LATE,
            note="power cut",
        ),
        "correction": pb.Correction(
            agreement=D, lab="borealis", link=pb.Link(sequence=2, previous=D), account=account(), corrects=D
        ),
        "record": pb.CheckpointRecord(agreement=D, lab="borealis", run="run-1", digest=D, estimates=[estimate()]),
        "finding": pb.Finding(
            agreement=D,
            party="norland",
            rule="lab-equivocation",
            subject="borealis",
            severity=pb.SEVERITY_BREACH,
            evidence=pb.Evidence(lab_equivocation=pb.LabEquivocationEvidence(first_index=1, second=second)),
        ),
    }


def refused(statement: Message) -> Code | None:
    try:
        parse_statement(seal(statement, [KEY]))
    except Refused as refusal:
        return refusal.code
    return None


def test_every_statement_passes_as_it_should_be() -> None:
    """SPEC statements-1: each payload type names one message, and that message comes back."""
    statements = good()
    commitments = {payload_type(message_class) for message_class in COMMITMENT_CHECKS}  # these have a test of their own
    assert {payload_type(type(statement)) for statement in statements.values()} == set(STATEMENTS) - commitments
    for statement in statements.values():
        assert parse_statement(seal(statement, [KEY])) == statement


def test_an_unknown_payload_type_is_refused() -> None:
    """SPEC statements-1."""
    for kind in ("", "application/vnd.pacekeeper.v1.", "application/vnd.pacekeeper.v1.Estimate", "Tick"):
        with pytest.raises(Refused) as caught:
            parse_statement(envelope_pb2.Envelope(payload_type=kind))
        assert caught.value.code is Code.UNKNOWN_PAYLOAD_TYPE


def test_a_payload_of_another_encoding_is_refused() -> None:
    """SPEC statements-1."""
    kind = payload_type(pb.Tick)
    payload = good()["tick"].SerializeToString()
    for bad in (payload + b"\x10\x07", payload + b"\x18\x00", payload[:-1], b"\xff"):
        with pytest.raises(Refused) as caught:
            parse_statement(envelope_pb2.Envelope(payload_type=kind, payload=bad))
        assert caught.value.code is Code.NOT_CANONICAL


Change = Callable[[Any], object]
BAD_IDS = ("", "-run", "Run", "run_1", "run/1", "ré", "r" * 65, "run\n", "٣")
BAD_TEXTS = ("a\nb", "a\x7f", "a\u202eb", "a\u2028", "\u200b", "\ue000", "x" * 401)


def setter(path: str, value: object) -> Change:
    def change(statement: Any) -> None:
        *parents, name = path.split(".")
        for parent in parents:
            statement = statement[int(parent)] if parent.isdigit() else getattr(statement, parent)
        if name.startswith("*"):
            del getattr(statement, name[1:])[:]
            getattr(statement, name[1:]).extend(value)
        else:
            setattr(statement, name, value)

    return change


def figures(*runs: str) -> list[pb.RunFigure]:
    return [pb.RunFigure(run=run, estimates=[estimate()]) for run in runs]


def pools(*models: str) -> list[pb.AcceleratorPool]:
    return [pb.AcceleratorPool(model=model) for model in models]


def parted(*parts: int) -> Callable[[Any], None]:
    """One run's figures about these parts of an account that is split once."""

    def change(statement: Any) -> None:
        del statement.account.figures[:]
        statement.account.splits_ms.append(5)
        for part in parts:
            statement.account.figures.add(run="a", part=part, estimates=[estimate(1)])

    return change


def times(*categories: Any) -> list[pb.CategoryTime]:
    return [pb.CategoryTime(category=category) for category in categories]


BAD = Code.BAD_FIELD
NAMED = ("tick", "declaration", "attestation", "gap", "correction", "record", "finding")
OF_LABS = NAMED[1:6]
CHAIN = ("attestation", "gap", "correction")
WITH_ACCOUNT = ("attestation", "correction")
# (rule, statements, change, code)
SHAPES: list[tuple[str, tuple[str, ...], Change, Code]] = [
    *(("statements-13", NAMED, setter("agreement", bad), BAD) for bad in (b"", D[:31], D + b"\x00")),
    *(("statements-2", OF_LABS, setter("lab", bad), BAD) for bad in BAD_IDS),
    *(("statements-2", ("declaration", "record"), setter("run", bad), BAD) for bad in BAD_IDS),
    *(("statements-2", ("finding",), setter("party", bad), BAD) for bad in BAD_IDS),
    *(("statements-2", ("finding",), setter("subject", bad), BAD) for bad in BAD_IDS),
    *(("statements-2", WITH_ACCOUNT, setter("account.*figures", figures(bad)), BAD) for bad in BAD_IDS),
    *(("statements-2", WITH_ACCOUNT, setter("account.*pools", pools(bad)), BAD) for bad in BAD_IDS),
    *(("statements-3", ("gap", "correction", "finding"), setter("note", bad), BAD) for bad in BAD_TEXTS),
    *(("statements-3", ("declaration",), setter("title", bad), BAD) for bad in BAD_TEXTS),
    *(("statements-4", ("declaration",), setter("initial_digest", bad), BAD) for bad in (b"", D[:31], D + D)),
    *(("statements-4", ("declaration",), setter("initial_state", bad), BAD) for bad in (0, 3, 4)),
    ("statements-14", ("declaration",), setter("initial_state", pb.INITIAL_STATE_FRESH), BAD),
    *(("statements-14", ("declaration",), setter("*parents", bad), BAD) for bad in ([5, 3], [3, 3])),
    ("statements-14", ("declaration",), setter("*parents", range(65)), Code.TOO_LARGE),
    *(("statements-5", CHAIN, setter("link.sequence", bad), BAD) for bad in (0,)),
    *(("statements-5", CHAIN, setter("link.previous", bad), BAD) for bad in (D[:31], D + b"\x00")),
    ("statements-5", WITH_ACCOUNT, setter("link.sequence", 1), BAD),
    ("statements-5", ("gap",), setter("link.sequence", 2), BAD),
    ("statements-5", CHAIN, lambda statement: statement.ClearField("link"), BAD),
    *(
        ("statements-6", WITH_ACCOUNT, setter("account.figures.0.*estimates", bad), BAD)
        for bad in ([], [estimate(2), estimate(1)], [estimate(1), estimate(1)], [estimate(0)], [estimate(3)])
    ),
    ("statements-6", WITH_ACCOUNT, setter("account.figures.1.*estimates", [estimate(margin=1_000_001)]), BAD),
    ("statements-6", ("record",), setter("*estimates", []), BAD),
    ("statements-6", ("record",), setter("*estimates", [estimate(margin=1_000_001)]), BAD),
    *(("statements-8", WITH_ACCOUNT, setter("account.*figures", figures(*bad)), BAD) for bad in ("ba", "aa")),
    *(("statements-8", WITH_ACCOUNT, setter("account.*pools", pools(*bad)), BAD) for bad in ("ba", "aa")),
    *(
        ("statements-8", WITH_ACCOUNT, setter("account.*time", times(*bad)), BAD)
        for bad in ((2, 1), (1, 1), (0,), (8,))
    ),
    *(("statements-19", WITH_ACCOUNT, setter("account.*splits_ms", bad), BAD) for bad in ([0], [5, 5], [6, 5])),
    ("statements-19", WITH_ACCOUNT, setter("account.*splits_ms", range(1, 66)), Code.TOO_LARGE),
    ("statements-19", WITH_ACCOUNT, setter("account.figures.0.part", 1), BAD),
    *(("statements-8", WITH_ACCOUNT, parted(*bad), BAD) for bad in ((0, 0), (1, 0), (0, 2))),
    ("limits", WITH_ACCOUNT, setter("account.*figures", figures(*(f"r{i:03}" for i in range(257)))), Code.TOO_LARGE),
    ("limits", WITH_ACCOUNT, setter("account.*pools", pools(*(f"p{i:03}" for i in range(65)))), Code.TOO_LARGE),
    ("statements-9", ("gap",), setter("first_period", 7), BAD),
    ("statements-9", ("gap",), setter("last_period", 1004), BAD),
    *(("statements-15", ("gap",), setter("reason", bad), BAD) for bad in (0, 3)),
    *(("statements-15", ("correction",), setter("corrects", bad), BAD) for bad in (b"", D[:31])),
    *(("statements-15", ("record",), setter("digest", bad), BAD) for bad in (b"", D[:31])),
    *(("statements-15", ("finding",), setter("rule", bad), BAD) for bad in ("", "Rule", "9", "a b", "r" * 65)),
    *(("statements-15", ("finding",), setter("severity", bad), BAD) for bad in (0, 5)),
    ("statements-15", ("agreement",), setter("document", b""), BAD),
    ("statements-15", ("agreement",), setter("document", bytes(limits.MAX_DOCUMENT_BYTES + 1)), Code.TOO_LARGE),
    ("statements-10", ("finding",), lambda statement: statement.ClearField("evidence"), Code.BAD_EVIDENCE),
    ("statements-10", ("finding",), lambda statement: statement.evidence.Clear(), Code.BAD_EVIDENCE),
    ("statements-12", WITH_ACCOUNT, lambda statement: statement.ClearField("account"), BAD),
]


@pytest.mark.parametrize("rule", sorted({shape[0] for shape in SHAPES}))
def test_each_field_outside_its_definition_is_refused(rule: str) -> None:
    """SPEC statements-2, SPEC statements-3, SPEC statements-4, SPEC statements-5, SPEC statements-6, SPEC statements-8,
    SPEC statements-9, SPEC statements-10, SPEC statements-12, SPEC statements-13, SPEC statements-14,
    SPEC statements-15 and SPEC statements-19.
    """
    for cited, names, change, code in SHAPES:
        for name in names:
            if cited == rule:
                statement = good()[name]
                change(statement)
                assert refused(statement) is code, statement


def test_an_account_fits_into_a_finding() -> None:
    """SPEC statements-7: an attestation of 32,000 bytes is an account, one of 32,001 is too large."""
    statement = good()["attestation"]
    statement.account.ClearField("figures")
    statement.account.ClearField("pools")
    for i in range(limits.MAX_FIGURES):
        figure = statement.account.figures.add(run=f"run-{i:03}" + "x" * 57, chip_ms=2**64 - 1, steps=2**64 - 1)
        figure.estimates.extend(estimate(method, 2**64 - 1, 1_000_000) for method in (1, 2))
    while (room := limits.MAX_ATTESTATION_BYTES - statement.ByteSize()) < 30:
        del statement.account.figures[-1]
    # A pool takes four bytes and its model's name; three of them fill what a figure more would not fit into.
    for model, size in (("a", room // 3), ("b", room // 3), ("c", room - 2 * (room // 3))):
        statement.account.pools.add(model=model.ljust(size - 4, "x"))
    assert statement.ByteSize() == limits.MAX_ATTESTATION_BYTES
    assert refused(statement) is None
    finding = good()["finding"]
    finding.evidence.lab_equivocation.second.CopyFrom(seal(statement, [KEY]))
    assert refused(finding) is None
    assert len(seal(finding, [KEY]).SerializeToString()) <= limits.MAX_ENVELOPE_BYTES
    statement.account.pools[-1].model += "x"
    assert statement.ByteSize() == limits.MAX_ATTESTATION_BYTES + 1
    assert refused(statement) is Code.TOO_LARGE


def test_an_unstated_start_has_no_digest() -> None:
    """SPEC statements-4."""
    statement = good()["declaration"]
    statement.initial_state = pb.INITIAL_STATE_UNSTATED
    statement.ClearField("initial_digest")
    assert refused(statement) is None


def test_what_cannot_be_shown_is_a_fixed_list() -> None:
    """SPEC statements-11: tables of no Unicode version, so that an assigned or unassigned character makes no odds."""
    hostile = [0, 9, 10, 27, 0x7F, 0x9F, 0xAD, 0x61C, 0x200B, 0x200F, 0x2028, 0x202E, 0x2066, 0xE000, 0xFEFF, 0xFDD0]
    hostile += [0xFE0F, 0xFFFF, 0x1FFFE, 0xE0001, 0xE0100, 0xF0000, 0x10FFFF, 0xD800]
    for code in hostile:
        assert not is_plain(f"a{chr(code)}b", 9), hex(code)
        assert printable(f"a{chr(code)}b") == f"a\\u{{{code:x}}}b"
    for plain in ("", "naïve", "训练", "\U0001f642", "\u0378", "\U00020000", "a b"):
        assert is_plain(plain, 9)
        assert printable(plain) == plain
    assert printable("x" * 500) == "x" * 400 + "..."


@settings(max_examples=200)
@given(st.text(max_size=50))
def test_shown_text_is_one_inert_line(text: str) -> None:
    """SPEC statements-11."""
    shown = printable(text)
    assert is_plain(shown, len(shown))
    assert len(shown.splitlines()) <= 1


def test_ids() -> None:
    """SPEC statements-2."""
    assert all(is_id(text) for text in ("a", "0", "run-1", "r" * 64, "a-"))
    assert not any(is_id(text) for text in BAD_IDS)
