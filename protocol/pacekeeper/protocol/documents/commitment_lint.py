"""Every fault of a commitment's document at once, and warnings about what compiles but may not be meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pacekeeper.protocol.documents.blocks import DocumentError, split_document
from pacekeeper.protocol.documents.commitment import find_faults
from pacekeeper.protocol.documents.commitment_members import line_in, reaction_ms
from pacekeeper.protocol.documents.commitment_model import CONSTRAINING, Commitment, Members
from pacekeeper.protocol.documents.lint import Problem
from pacekeeper.protocol.documents.tables import Table, parse_tables
from pacekeeper.protocol.units import format_duration

ENDING_MS: Final = 63_000  # what a gate gives a command to be told, to save, and to end


def lint_commitment(document: bytes, members: Members | None = None) -> list[Problem]:
    """Return all problems in the order of lines; the document compiles exactly if none is an error."""
    try:
        split = split_document(document)
        tables = parse_tables(split)
        commitment, faults = find_faults(document, split, tables, members)
    except DocumentError as error:
        return [Problem(error.line, "error", error.message)]
    problems = [Problem(fault.line, "error", fault.message) for fault in faults]
    if not faults:
        problems.extend(_warnings(commitment, tables, members))
    return sorted(problems, key=lambda problem: problem.line)


def _warnings(commitment: Commitment, tables: list[Table], members: Members | None) -> Iterator[Problem]:
    entry = commitment.entry
    if entry.rule.named and len(entry.rule.named) > entry.rule.parties:
        message = "each of those named can keep this from ever entering into force"
        yield Problem(line_in(tables, "entry", "named"), "warning", message)
    if commitment.kind not in CONSTRAINING:
        return
    rows = [table for table in tables if table.name == "exemption"]
    for exemption, row in zip(commitment.exemptions, rows, strict=True):
        # SPEC conduct-12: a budget of which no account says what is used MUST be named as one that nothing judges.
        if exemption.category != "training":
            message = f"budget: accounts have no operations for {exemption.category}, so nothing judges or enforces it"
            yield Problem(row.line_of("budget"), "warning", message)
    yield from _haste(commitment, tables, members)
    if commitment.lease is None and commitment.measure is not None:
        message = "no [lease]: what a gate does without the log is left to its lab"
        yield Problem(line_in(tables, "commitment", "kind"), "warning", message)
    if commitment.lifting.by is None:
        message = "nobody can lift it before its end"
        yield Problem(line_in(tables, "commitment", "kind"), "warning", message)
    if commitment.withdrawal.before and not commitment.withdrawal.cut_off_ms:
        message = "cut_off: none, so that the last to pledge can still step back just before entry"
        yield Problem(line_in(tables, "withdrawal", "before_entry"), "warning", message)


def _haste(commitment: Commitment, tables: list[Table], members: Members | None) -> Iterator[Problem]:
    """What counts by its chips' time has to be ended to keep a pause, and that takes a while."""
    ahead_ms = reaction_ms(commitment)
    needed_ms = ENDING_MS + (members.tolerance_ms if members is not None else 0)
    # SPEC commitments-71: too little time to save and end MUST be warned of.
    if ahead_ms is not None and ahead_ms < needed_ms:
        message = f"wind_down: {format_duration(ahead_ms)} until it bites; saving and ending a command may take longer"
        yield Problem(line_in(tables, str(commitment.kind), "wind_down"), "warning", message)
    # SPEC commitments-72: a lease within which no such job could run MUST be warned of.
    lease = commitment.lease
    if lease is not None and lease.hold and lease.lease_ms <= ENDING_MS:
        message = "lease: a job that counts by its chips' time is ended a minute before it is over, so it cannot run"
        yield Problem(line_in(tables, "lease", "lease"), "warning", message)
