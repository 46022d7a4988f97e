"""Reading commitments that are done once, at their entry into force: accession, exit, amendment, key replacement."""

from __future__ import annotations

from typing import Final

from pacekeeper.protocol import limits
from pacekeeper.protocol.documents import values
from pacekeeper.protocol.documents.agreement import (
    read_cap,
    read_lab,
    read_margins,
    read_party,
    read_quorum,
    read_resolution,
    read_timing,
)
from pacekeeper.protocol.documents.checks import MAX_PARTIES
from pacekeeper.protocol.documents.commitment_model import (
    Accession,
    Act,
    Amendment,
    Exit,
    KeyReplacement,
    KeyReplacements,
    Kind,
)
from pacekeeper.protocol.documents.model import Quorum
from pacekeeper.protocol.documents.terms import TableReader, TermsReader

ROLES: Final = ("party", "verifier", "lab", "log")
MAX_EPOCH: Final = 10**6


def read_act(kind: Kind, terms: TermsReader) -> Act | None:
    """Read the tables of an act, or None for a kind that constrains."""
    match kind:
        case Kind.ACCESSION:
            return Accession(
                parties=tuple(read_party(table) for table in terms.any("party", MAX_PARTIES)),
                labs=tuple(read_lab(table) for table in terms.any("lab", limits.MAX_LABS)),
                quorum=_quorum(terms),
            )
        case Kind.EXIT:
            table = terms.one("exit")
            leaving = Exit(table.ident("party"), _quorum(terms))
            table.close()
            return leaving
        case Kind.AMENDMENT:
            return _amendment(terms)
        case Kind.KEYS:
            return KeyReplacements(tuple(_key(table) for table in terms.many("key", limits.MAX_KEYS_REPLACED)))
        case _:
            return None


def _amendment(terms: TermsReader) -> Amendment:
    timing = terms.maybe("timing")
    margins, resolution = terms.maybe("margins"), terms.maybe("resolution")
    caps = tuple(read_cap(table) for table in terms.any("cap", limits.MAX_CAPS))
    return Amendment(
        timing=None if timing is None else read_timing(timing),
        quorum=_quorum(terms),
        margins=None if margins is None else read_margins(margins),
        indeterminate_periods=None if resolution is None else read_resolution(resolution),
        caps=caps or None,
    )


def _quorum(terms: TermsReader) -> Quorum | None:
    """The number of verifiers follows from who is a party then, and not from this document."""
    table = terms.maybe("quorum")
    return None if table is None else read_quorum(table, 0)


def _key(table: TableReader) -> KeyReplacement:
    replacement = KeyReplacement(
        role=table.read("role", values.as_choice(*ROLES), ROLES[0]),
        holder=table.ident("holder"),
        epoch=table.count("epoch", 2, MAX_EPOCH),
        key=table.public_key("key"),
    )
    table.close()
    return replacement
