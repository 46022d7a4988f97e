"""The rules between an agreement's terms: arithmetic, references, and no key for two jobs.

Each check yields faults with the line of the term that breaks the rule; they assume that every term reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pacekeeper.protocol import limits
from pacekeeper.protocol.documents.blocks import DocumentError
from pacekeeper.protocol.documents.model import Agreement
from pacekeeper.protocol.documents.tables import Table

LOG_SUBJECT = "log"  # findings name the log so; no party or lab may

MIN_PERIOD_MS = 1_000
# Every founder signs entry 0, so the signatures of one envelope bound the parties too.
MAX_PARTIES: Final = min(limits.MAX_PARTIES, limits.MAX_SIGNATURES)


class Tables:
    """The tables that an agreement was read from, by name, for their line numbers."""

    def __init__(self, tables: list[Table]) -> None:
        self._tables = tables

    def one(self, name: str) -> Table:
        return next(table for table in self._tables if table.name == name)

    def many(self, name: str) -> list[Table]:
        return [table for table in self._tables if table.name == name]


def check_agreement(agreement: Agreement, tables: list[Table]) -> Iterator[DocumentError]:
    """Yield every broken rule of an agreement all of whose terms read."""
    lines = Tables(tables)
    yield from _check_times(agreement, lines)
    yield from _check_quorum(agreement, lines)
    yield from _check_ids(agreement, lines)
    yield from _check_references(agreement, lines)
    yield from _check_names(agreement, lines)
    yield from _check_distinct(_keys(agreement, lines), "key")
    yield from _check_distinct(_pins(agreement, lines), "TLS key")


def first_fault(agreement: Agreement) -> DocumentError | None:
    """Return a rule that an agreement in force breaks, whose terms come from several documents; its line is 0.

    The same rules as of one document, so that no act can lead where no founding could.
    """
    counts = (("party", agreement.parties, MAX_PARTIES), ("lab", agreement.labs, limits.MAX_LABS))
    for name, held, at_most in (*counts, ("cap", agreement.caps, limits.MAX_CAPS)):
        if len(held) > at_most:
            return DocumentError(0, f"more than {at_most} of [[{name}]]")
    tables = [Table(name, 0, repeated=False) for name in ("agreement", "calendar", "timing", "quorum", "log")]
    for name, held, _ in (*counts, ("cap", agreement.caps, 0)):
        part = {"verifier": Table("party.verifier", 0, repeated=False)} if name == "party" else {}
        tables += [Table(name, 0, repeated=True, parts=part) for _ in held]
    return next(check_agreement(agreement, tables), None)


def _check_times(agreement: Agreement, lines: Tables) -> Iterator[DocumentError]:
    # SPEC documents-16: a period MUST last 1 s at least; due MUST be below fill_in; two ticks MUST fit into due.
    calendar, timing = agreement.calendar, agreement.timing
    table = lines.one("calendar")
    if calendar.period_ms < MIN_PERIOD_MS:
        yield DocumentError(table.line_of("period"), "period: at least 1 s")
    if calendar.due_ms >= calendar.fill_in_ms:
        yield DocumentError(table.line_of("fill_in"), "fill_in: must be longer than due")
    if 2 * timing.tick_ms > calendar.due_ms:
        message = "tick: two ticks must fit into due, or each deadline would fall into a silence of the log"
        yield DocumentError(lines.one("timing").line_of("tick"), message)


def _check_quorum(agreement: Agreement, lines: Tables) -> Iterator[DocumentError]:
    # SPEC documents-17: with n verifiers, quorum q and liars f, 2q - n MUST be above f, and q MUST NOT exceed n - f.
    n, q, f = agreement.quorum.verifiers, agreement.quorum.quorum, agreement.quorum.liars
    line = lines.one("quorum").line_of("quorum")
    if 2 * q - n <= f:
        message = f"quorum: {q} of {n} with {f} lying: two quorums could share liars only; 2q - n must be above {f}"
        yield DocumentError(line, message)
    if q > n - f:
        yield DocumentError(line, f"quorum: {q} of {n} cannot be reached when {f} lie by silence; at most {n - f}")


def _check_ids(agreement: Agreement, lines: Tables) -> Iterator[DocumentError]:
    # SPEC documents-18: ids MUST be distinct, over parties and labs together, and among caps; "log" MUST NOT be one.
    idents = [*(party.id for party in agreement.parties), *(lab.id for lab in agreement.labs)]
    actors = [table.line_of("id") for table in (*lines.many("party"), *lines.many("lab"))]
    yield from check_once(idents, actors)
    for ident, line in zip(idents, actors, strict=True):
        if ident == LOG_SUBJECT:
            yield DocumentError(line, f'id: "{ident}" is what findings call the log')
    yield from check_once([cap.id for cap in agreement.caps], [table.line_of("id") for table in lines.many("cap")])


def check_once(idents: list[str], lines: list[int]) -> Iterator[DocumentError]:
    """Yield a fault for each id that an earlier line has."""
    first: dict[str, int] = {}
    for ident, line in sorted(zip(idents, lines, strict=True), key=lambda pair: pair[1]):
        if ident in first:
            yield DocumentError(line, f'id: "{ident}" is used at line {first[ident]} already')
        first.setdefault(ident, line)


def _check_references(agreement: Agreement, lines: Tables) -> Iterator[DocumentError]:
    # SPEC documents-19: a lab's party MUST exist; a cap's subjects MUST be labs, or parties when its kind is "party".
    parties = {party.id for party in agreement.parties}
    labs = {lab.id for lab in agreement.labs}
    for lab, table in zip(agreement.labs, lines.many("lab"), strict=True):
        if lab.party not in parties:
            yield DocumentError(table.line_of("party"), f'party: there is no party "{lab.party}"')
    for cap, table in zip(agreement.caps, lines.many("cap"), strict=True):
        known, word = (parties, "party") if cap.kind == "party" else (labs, "lab")
        for subject in cap.subjects:
            if subject not in known:
                yield DocumentError(table.line_of("subjects"), f'subjects: there is no {word} "{subject}"')


def _check_names(agreement: Agreement, lines: Tables) -> Iterator[DocumentError]:
    # SPEC documents-20: the log's key MUST bear the origin, a cosigning key its verifier's name, each name once.
    if agreement.log.key.name != agreement.origin:
        message = f'key: its name is "{agreement.log.key.name}", the origin is "{agreement.origin}"'
        yield DocumentError(lines.one("log").line_of("key"), message)
    names = {agreement.origin: lines.one("agreement").line_of("origin")}
    for party, owner in zip(agreement.parties, lines.many("party"), strict=True):
        table, verifier = owner.parts["verifier"], party.verifier
        if verifier.cosign_key.name != verifier.name:
            message = f'cosign_key: its name is "{verifier.cosign_key.name}", the verifier\'s is "{verifier.name}"'
            yield DocumentError(table.line_of("cosign_key"), message)
        if verifier.name in names:
            message = f'name: "{verifier.name}" is used at line {names[verifier.name]} already'
            yield DocumentError(table.line_of("name"), message)
        names.setdefault(verifier.name, table.line_of("name"))


def _check_distinct(found: Iterator[tuple[bytes, int]], word: str) -> Iterator[DocumentError]:
    # SPEC documents-22: one key, and one TLS key, MUST NOT serve two jobs or two holders.
    first: dict[bytes, int] = {}
    for value, line in sorted(found, key=lambda pair: pair[1]):
        if value in first:
            yield DocumentError(line, f"this {word} is used at line {first[value]} already; each job has its own")
        first.setdefault(value, line)


def _keys(agreement: Agreement, lines: Tables) -> Iterator[tuple[bytes, int]]:
    log = lines.one("log")
    yield agreement.log.key.public_key, log.line_of("key")
    yield agreement.log.statement_key, log.line_of("statement_key")
    for party, table in zip(agreement.parties, lines.many("party"), strict=True):
        part = table.parts["verifier"]
        yield party.key, table.line_of("key")
        yield party.verifier.statement_key, part.line_of("statement_key")
        yield party.verifier.cosign_key.public_key, part.line_of("cosign_key")
    for lab, table in zip(agreement.labs, lines.many("lab"), strict=True):
        yield lab.key, table.line_of("key")


def _pins(agreement: Agreement, lines: Tables) -> Iterator[tuple[bytes, int]]:
    yield agreement.log.tls_spki, lines.one("log").line_of("tls_spki")
    for party, table in zip(agreement.parties, lines.many("party"), strict=True):
        yield party.verifier.tls_spki, table.parts["verifier"].line_of("tls_spki")
    for lab, table in zip(agreement.labs, lines.many("lab"), strict=True):
        yield lab.tls_spki, table.line_of("tls_spki")
