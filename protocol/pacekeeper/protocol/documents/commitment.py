"""A commitment's document compiled to typed terms, by the same rules of files and term blocks as an agreement.

The table of contents of a commitment's terms is read_commitment below; what each table says is read in
commitment_entry, commitment_end and commitment_acts, and the rules between terms are in commitment_checks. A document
compiles by itself; with the members of the agreement at hand, what it says about them is checked too.

Example: compile_commitment(document, members).entry.rule.parties == 4
"""

from __future__ import annotations

import hashlib
from typing import Final

from pacekeeper.protocol import limits
from pacekeeper.protocol.documents import commitment_acts, commitment_checks, commitment_end, commitment_entry, values
from pacekeeper.protocol.documents.agreement import read_cap
from pacekeeper.protocol.documents.blocks import Document, DocumentError, split_document
from pacekeeper.protocol.documents.commitment_model import (
    CapLimits,
    Commitment,
    Exemption,
    Growth,
    Kind,
    Measure,
    Members,
    Pause,
    Scope,
    SlowDown,
)
from pacekeeper.protocol.documents.commitment_prose import check_prose
from pacekeeper.protocol.documents.tables import Table, parse_tables
from pacekeeper.protocol.documents.terms import TableReader, TermsReader

__all__ = ["CATEGORIES", "Commitment", "DocumentError", "Kind", "Members", "compile_commitment", "find_faults"]

CATEGORIES: Final = ("training", "synthetic-data", "evaluation", "inference")


def compile_commitment(document: bytes, members: Members | None = None) -> Commitment:
    """Compile a commitment's exact bytes. Raises DocumentError with the first fault in the order of lines.

    SPEC commitments-1: a commitment's document MUST compile, given the members of the agreement at its log position.
    """
    split = split_document(document)
    tables = parse_tables(split)
    commitment, faults = find_faults(document, split, tables, members)
    if faults:
        raise min(faults, key=lambda fault: fault.line)
    return commitment


def find_faults(
    document: bytes, split: Document, tables: list[Table], members: Members | None
) -> tuple[Commitment, list[DocumentError]]:
    """Read every term and return all faults; the commitment is only good when there are none."""
    faults: list[DocumentError] = []
    commitment = read_commitment(document, tables, faults)
    if not faults:
        faults.extend(commitment_checks.check_commitment(commitment, tables))
        faults.extend(check_prose(split, tables))
        if members is not None:
            faults.extend(commitment_checks.check_members(commitment, tables, members))
    return commitment, faults


def read_commitment(document: bytes, tables: list[Table], faults: list[DocumentError]) -> Commitment:
    """Read every term; what cannot be read is noted in faults, and the result is only good when there are none."""
    terms = TermsReader(tables, faults, document.count(b"\n") + 1)
    head = terms.one("commitment")
    kind = Kind(head.read("kind", values.as_choice(*Kind), Kind.PAUSE.value))
    commitment = Commitment(
        document=document,
        digest=hashlib.sha256(document).digest(),
        id=head.ident("id"),
        title=head.text("title"),
        kind=kind,
        scope=_scope(terms.maybe("scope")),
        measure=_measure(kind, terms),
        act=commitment_acts.read_act(kind, terms),
        exemptions=tuple(_exemption(table) for table in terms.any("exemption", limits.MAX_EXEMPTIONS)),
        entry=commitment_entry.read_entry(terms.one("entry")),
        weights=commitment_entry.read_weights(terms),
        triggers=commitment_entry.read_triggers(terms),
        term=commitment_end.read_term(terms.maybe("term")),
        lifting=commitment_end.read_lifting(kind, terms),
        withdrawal=commitment_end.read_withdrawal(terms.one("withdrawal")),
        release_others=commitment_end.read_breach(terms.maybe("breach")),
        lease=commitment_end.read_lease(terms.maybe("lease")),
    )
    head.close()
    terms.close()
    return commitment


def _scope(table: TableReader | None) -> Scope:
    if table is None:
        return Scope()
    scope = Scope(
        parties=frozenset(table.optional("parties", values.as_idents, ())),
        labs=frozenset(table.optional("labs", values.as_idents, ())),
    )
    if scope == Scope():
        table.fault("", "[scope] names nobody; without the table, everyone may pledge")
    table.close()
    return scope


def _measure(kind: Kind, terms: TermsReader) -> Measure | None:
    """SPEC commitments-2: a commitment MUST have the table of its kind, and only that one."""
    match kind:
        case Kind.PAUSE:
            table = terms.one("pause")
            measure: Measure = Pause(table.read("above", values.as_flop, 1), table.read("wind_down", values.as_span, 0))
        case Kind.SLOW_DOWN:
            table = terms.one("slow-down")
            measure = SlowDown(table.read("rate", values.as_rate, 1), table.read("wind_down", values.as_span, 0))
        case Kind.GROWTH:
            table = terms.one("growth")
            measure = _growth(table)
        case Kind.CAP:
            return CapLimits(tuple(read_cap(item) for item in terms.many("cap", limits.MAX_CAPS)))
        case _:
            return None
    table.close()
    return measure


def _growth(table: TableReader) -> Growth:
    return Growth(
        window=table.read("window", values.as_window, 1),
        baseline=table.read("baseline", values.as_window, 1),
        growth_ppm=table.read("growth", values.as_percent, 0),
        floor_gflop=table.read("floor", values.as_flop, 1),
        banking_ppm=table.optional("banking", values.as_percent, 0),
        debt_ppm=table.optional("debt", values.as_percent, 0),
    )


def _exemption(table: TableReader) -> Exemption:
    exemption = Exemption(
        id=table.ident("id"),
        category=table.read("category", values.as_choice(*CATEGORIES), CATEGORIES[0]),
        budget_gflop=table.read("budget", values.as_flop, 1),
        window=table.optional("window", values.as_window, 0),
    )
    table.close()
    return exemption
