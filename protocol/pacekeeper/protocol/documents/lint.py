"""Every fault of an agreement's document at once, and warnings about what compiles but may not be meant.

An error is what compile_agreement refuses; a warning never is. Rules between terms are asked once every term reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pacekeeper.protocol.documents.agreement import read_agreement
from pacekeeper.protocol.documents.blocks import DocumentError, split_document
from pacekeeper.protocol.documents.checks import Tables, check_agreement
from pacekeeper.protocol.documents.model import Agreement
from pacekeeper.protocol.documents.tables import Table, parse_tables

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Problem:
    """One line of a linter's report. The message may quote hostile text."""

    line: int
    severity: Severity
    message: str


def lint_agreement(document: bytes) -> list[Problem]:
    """Return all problems in the order of lines; the document compiles exactly if none is an error."""
    faults: list[DocumentError] = []
    warnings: list[Problem] = []
    try:
        tables = parse_tables(split_document(document))
        agreement = read_agreement(document, tables, faults)
    except DocumentError as error:
        return [Problem(error.line, "error", error.message)]
    if not faults:
        faults.extend(check_agreement(agreement, tables))
    if not faults:
        warnings.extend(_warnings(agreement, tables))
    errors = [Problem(fault.line, "error", fault.message) for fault in faults]
    return sorted([*errors, *warnings], key=lambda problem: problem.line)


def _warnings(agreement: Agreement, tables: list[Table]) -> Iterator[Problem]:
    lines = Tables(tables)
    yield from _warn_quorum(agreement, lines)
    yield from _warn_timing(agreement, lines)
    yield from _warn_margins(agreement, lines)
    yield from _warn_uncapped(agreement, lines)
    yield from _warn_addresses(agreement, lines)


def _warn_quorum(agreement: Agreement, lines: Tables) -> Iterator[Problem]:
    table, quorum = lines.one("quorum"), agreement.quorum
    if quorum.absences == 0:
        message = "tolerates no absence: one verifier that stops, stops the log"
        yield Problem(table.line_of("quorum"), "warning", message)
    if quorum.liars == 0:
        message = "tolerates no liar: one dishonest verifier can help the log to show two histories"
        yield Problem(table.line_of("liars"), "warning", message)


def _warn_timing(agreement: Agreement, lines: Tables) -> Iterator[Problem]:
    table, calendar, timing = lines.one("timing"), agreement.calendar, agreement.timing
    if timing.unwitnessed_ms < timing.tick_ms:
        message = "shorter than tick: the log would stop between two of its own ticks"
        yield Problem(table.line_of("unwitnessed"), "warning", message)
    if timing.tolerance_ms > calendar.period_ms:
        message = "longer than a period: clocks that far apart do not agree on the period"
        yield Problem(table.line_of("tolerance"), "warning", message)


def _warn_margins(agreement: Agreement, lines: Tables) -> Iterator[Problem]:
    if all(margin >= 1_000_000 for margin in agreement.margins.values()):
        message = "every method's margin is 100 %: no figure could ever show a cap exceeded"
        yield Problem(lines.one("margins").line, "warning", message)


def _warn_uncapped(agreement: Agreement, lines: Tables) -> Iterator[Problem]:
    for lab, table in zip(agreement.labs, lines.many("lab"), strict=True):
        if not any(not cap.subjects or lab.id in cap.subjects or lab.party in cap.subjects for cap in agreement.caps):
            yield Problem(table.line_of("id"), "warning", f'no cap applies to the lab "{lab.id}"')


def _warn_addresses(agreement: Agreement, lines: Tables) -> Iterator[Problem]:
    first = {agreement.log.address: lines.one("log").line_of("address")}
    for party, owner in zip(agreement.parties, lines.many("party"), strict=True):
        address, line = party.verifier.address, owner.parts["verifier"].line_of("address")
        if address in first:
            yield Problem(line, "warning", f'"{address}" is the address at line {first[address]} too')
        first.setdefault(address, line)
