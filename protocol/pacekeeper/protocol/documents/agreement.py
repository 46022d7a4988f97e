"""An agreement's document compiled to typed terms: the first thing that every role and every auditor does.

The table of contents of an agreement's terms is read_agreement below. Reading gathers every fault with its line; the
rules between terms (checks) are asked only once everything reads. SPEC documents-14: the fingerprint MUST be the
SHA-256 of the document's exact bytes.

Example: compile_agreement(document).quorum.absences == 1
"""

from __future__ import annotations

import hashlib
from typing import Final

from pacekeeper.protocol import limits
from pacekeeper.protocol.documents import checks, values
from pacekeeper.protocol.documents.blocks import DocumentError, split_document
from pacekeeper.protocol.documents.checks import MAX_PARTIES
from pacekeeper.protocol.documents.model import (
    Agreement,
    Calendar,
    Cap,
    Lab,
    LogTerms,
    Party,
    Quorum,
    Timing,
    VerifierTerms,
)
from pacekeeper.protocol.documents.tables import Table, parse_tables
from pacekeeper.protocol.documents.terms import TableReader, TermsReader
from pacekeeper.v1 import statements_pb2

__all__ = [
    "METHODS",
    "RULES_VERSION",
    "UNIT",
    "Agreement",
    "Calendar",
    "Cap",
    "DocumentError",
    "Lab",
    "LogTerms",
    "Party",
    "Quorum",
    "Timing",
    "VerifierTerms",
    "compile_agreement",
    "read_agreement",
    "read_cap",
    "read_lab",
    "read_margins",
    "read_party",
    "read_quorum",
    "read_resolution",
    "read_timing",
]

RULES_VERSION: Final = 4
UNIT: Final = "gigaFLOP"
METHODS: Final[dict[str, int]] = {
    "framework-count": statements_pb2.METHOD_FRAMEWORK_COUNT,
    "chip-time": statements_pb2.METHOD_CHIP_TIME,
}
MAX_INDETERMINATE: Final = 1_000  # periods


def compile_agreement(document: bytes) -> Agreement:
    """Compile an agreement's exact bytes. Raises DocumentError with the first fault in the order of lines."""
    split = split_document(document)
    tables = parse_tables(split)
    faults: list[DocumentError] = []
    agreement = read_agreement(document, tables, faults)
    if not faults:
        faults.extend(checks.check_agreement(agreement, tables))
    if faults:
        raise min(faults, key=lambda fault: fault.line)
    return agreement


def read_agreement(document: bytes, tables: list[Table], faults: list[DocumentError]) -> Agreement:
    """Read every term; what cannot be read is noted in faults, and the result is only good when there are none."""
    terms = TermsReader(tables, faults, document.count(b"\n") + 1)
    head = terms.one("agreement")
    parties = tuple(read_party(table) for table in terms.many("party", MAX_PARTIES))
    agreement = Agreement(
        document=document,
        fingerprint=hashlib.sha256(document).digest(),
        title=head.text("title"),
        rules_version=_rules_version(head),
        origin=head.name("origin"),
        calendar=_calendar(terms.one("calendar")),
        timing=read_timing(terms.one("timing")),
        quorum=read_quorum(terms.one("quorum"), len(parties)),
        margins=read_margins(terms.one("margins")),
        indeterminate_periods=read_resolution(terms.one("resolution")),
        parties=parties,
        labs=tuple(read_lab(table) for table in terms.many("lab", limits.MAX_LABS)),
        log=_log(terms.one("log")),
        caps=tuple(read_cap(table) for table in terms.many("cap", limits.MAX_CAPS)),
    )
    head.close()
    terms.close()
    return agreement


def _rules_version(table: TableReader) -> int:
    # SPEC documents-15: rules MUST be a version that the software has, and unit MUST be "gigaFLOP".
    unit = table.text("unit")
    if unit not in ("", UNIT):
        table.fault("unit", f'unit: expected "{UNIT}", got "{unit}"')
    return table.count("rules", 1, RULES_VERSION)


def _calendar(table: TableReader) -> Calendar:
    calendar = Calendar(
        epoch_ms=table.read("epoch", values.as_time, 0),
        period_ms=table.duration("period"),
        due_ms=table.duration("due"),
        fill_in_ms=table.duration("fill_in"),
    )
    table.close()
    return calendar


def read_timing(table: TableReader) -> Timing:
    """Read a [timing] table."""
    timing = Timing(table.duration("tick"), table.duration("tolerance"), table.duration("unwitnessed"))
    table.close()
    return timing


def read_quorum(table: TableReader, parties: int) -> Quorum:
    """Read a [quorum] table over so many parties."""
    quorum = Quorum(
        verifiers=parties,
        quorum=table.count("quorum", 1, MAX_PARTIES),
        liars=table.count("liars", 0, MAX_PARTIES),
    )
    table.close()
    return quorum


def read_margins(table: TableReader) -> dict[int, int]:
    """Read a [margins] table: the widest margin of each method admitted."""
    margins = {method: table.read(name, values.as_percent, 0) for name, method in METHODS.items() if table.has(name)}
    if not margins:
        table.fault("", f"[margins] admits no method; there are {' and '.join(METHODS)}")
    table.close()
    return margins


def read_resolution(table: TableReader) -> int:
    """Read a [resolution] table."""
    periods = table.count("indeterminate_periods", 1, MAX_INDETERMINATE)
    table.close()
    return periods


def _log(table: TableReader) -> LogTerms:
    log = LogTerms(
        key=table.vkey("key", 1),
        statement_key=table.public_key("statement_key"),
        tls_spki=table.pin("tls_spki"),
        address=table.address("address"),
        url=table.read("url", values.as_url, ""),
    )
    table.close()
    return log


def read_party(table: TableReader) -> Party:
    """Read a [[party]] table and its [party.verifier]."""
    verifier = table.part("verifier")
    party = Party(
        id=table.ident("id"),
        name=table.text("name"),
        key=table.public_key("key"),
        verifier=VerifierTerms(
            name=verifier.name("name"),
            statement_key=verifier.public_key("statement_key"),
            cosign_key=verifier.vkey("cosign_key", 4),
            tls_spki=verifier.pin("tls_spki"),
            address=verifier.address("address"),
        ),
    )
    verifier.close()
    table.close()
    return party


def read_lab(table: TableReader) -> Lab:
    """Read a [[lab]] table."""
    lab = Lab(
        id=table.ident("id"),
        name=table.text("name"),
        party=table.ident("party"),
        key=table.public_key("key"),
        tls_spki=table.pin("tls_spki"),
    )
    table.close()
    return lab


def read_cap(table: TableReader) -> Cap:
    """Read a [[cap]] table."""
    # SPEC documents-21: a cap MUST be of kind "run", "lab" or "party"; it has a window exactly if it is not of "run".
    kind = table.text("kind")
    if kind not in ("", "run", "lab", "party"):
        table.fault("kind", f'kind: expected "run", "lab" or "party", got "{kind}"')
    window, has_window = 0, table.has("window")
    if kind in ("lab", "party"):
        window = table.read("window", values.as_window, 1)
    elif kind == "run" and has_window:
        table.fault("window", "window: a cap on a run counts the run's whole lineage, so it has none")
    cap = Cap(
        id=table.ident("id"),
        kind=kind,
        limit=table.read("limit", values.as_flop, 1),
        window=window,
        subjects=table.read("subjects", values.as_idents, ()) if table.has("subjects") else (),
    )
    table.close()
    return cap
