"""The agreement in force: who is a party now, who came or went, by which commitment, and which terms were amended.

Everything follows from the replayed state. Names and titles are the log's own text, and escaped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pacekeeper.protocol.commitments.book import Performed
from pacekeeper.protocol.documents.agreement import Lab, Party, compile_agreement
from pacekeeper.protocol.documents.commitment_model import Accession, Amendment, Exit
from pacekeeper.protocol.documents.describe import describe_terms
from pacekeeper.protocol.replay.state import State
from pacekeeper.protocol.text import count_of, printable
from pacekeeper.protocol.units import format_time


def tell_agreement(state: State) -> Iterator[str]:
    """Yield who is a party now, and then every change in the order in which it was done, one sentence each.

    SPEC audit-27: who is a party, who joined or left and what was amended MUST be said, each with the commitment, entry
    and time that brought it about.
    """
    parties = [f"{printable(party.name)} ({party.id})" for party in state.agreement.parties]
    yield f"{count_of(len(parties), 'party')} now: {', '.join(parties)}"
    for act in state.acts:
        where = f"entry {act.index}, {format_time(act.time_ms)}, by {act.commitment}"
        for sentence in describe_act(state, act):
            yield f"{where}: {sentence}"


def describe_act(state: State, act: Performed) -> Iterator[str]:
    """Yield what an act changed, in sentences. An act of another kind has a story, and nothing is added to it here."""
    match act.act:
        case Accession(parties=parties, labs=labs, quorum=quorum):
            yield from (f"{printable(joined.name)} ({joined.id}) joined as a party" for joined in parties)
            yield from (f"{printable(lab.name)} ({lab.id}) joined as a lab of {lab.party}" for lab in labs)
            for lab in labs:
                yield f"{lab.id} gives accounts from period {state.joined[lab.id]} on"
            yield from describe_terms(quorum=quorum)
        case Exit(party=party, quorum=quorum):
            yield f"{printable(every_party(state)[party].name)} ({party}) left"
            for known in state.labs.values():
                if known.party == party:
                    yield f"{known.id} left with it, and gives accounts up to period {known.last_period}"
            yield from describe_terms(quorum=quorum)
        case Amendment() as amended:
            yield from describe_terms(
                quorum=amended.quorum,
                timing=amended.timing,
                margins=amended.margins,
                indeterminate_periods=amended.indeterminate_periods,
                caps=amended.caps,
            )
        case _:
            return


def every_party(state: State) -> dict[str, Party]:
    """Return every party that there ever was, by id."""
    founders = compile_agreement(state.agreement.document).parties
    return {
        party.id: party for parties in (founders, *(act.parties for act in _accessions(state))) for party in parties
    }


def every_lab(state: State) -> dict[str, Lab]:
    """Return every lab that there ever was, by id."""
    founders = compile_agreement(state.agreement.document).labs
    return {lab.id: lab for labs in (founders, *(act.labs for act in _accessions(state))) for lab in labs}


def _accessions(state: State) -> list[Accession]:
    return [done.act for done in state.acts if isinstance(done.act, Accession)]


def export_agreement(state: State) -> dict[str, Any]:
    """Return the same as JSON-able values."""
    agreement = state.agreement
    return {
        "parties": [{"party": party.id, "name": party.name} for party in agreement.parties],
        "labs": [{"lab": lab.id, "name": lab.name, "party": lab.party} for lab in agreement.labs],
        "quorum": {"quorum": agreement.quorum.quorum, "liars": agreement.quorum.liars},
        "former": sorted(state.members.former),
        "acts": [
            {
                "commitment": act.commitment,
                "index": act.index,
                "time_ms": act.time_ms,
                "kind": str(state.commitments.standing(act.commitment).terms.kind),
                "words": list(describe_act(state, act)),
            }
            for act in state.acts
        ],
    }
