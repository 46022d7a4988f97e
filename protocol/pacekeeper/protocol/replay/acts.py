"""Acts: what a commitment does once, when its time has come, to the agreement and its members.

The agreement in force is `state.agreement`; an act puts another in its place, which has the same fingerprint. Each act
checks first and changes after: one that can no longer be done is refused, and then nothing has changed.
"""

from __future__ import annotations

from typing import Final

from pacekeeper.protocol.documents.checks import first_fault
from pacekeeper.protocol.documents.commitment_model import Accession, Act, Amendment, Exit, KeyReplacements, Kind
from pacekeeper.protocol.documents.model import Agreement
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay import amendments, key_life, membership
from pacekeeper.protocol.replay.participants import members_of
from pacekeeper.protocol.replay.state import State

# SPEC commitments-42: which kinds of commitment a version of the rules judges or performs.
KINDS: Final[dict[int, frozenset[Kind]]] = {
    1: frozenset(),
    2: frozenset({Kind.PAUSE, Kind.SLOW_DOWN}),
    3: frozenset(Kind),
    4: frozenset(Kind),
}


def outcome_of(state: State, act: Act) -> Agreement:
    """Return the agreement that an act would leave if it were done now. Raises Refused if it cannot be done now.

    SPEC commitments-50: an act MUST NOT leave an agreement that could not have been founded.
    """
    match act:
        case Accession():
            agreement = membership.joined(state, act)
        case Exit():
            agreement = membership.left(state, act)
        case Amendment():
            agreement = amendments.amended(state, act)
        case KeyReplacements():
            return state.agreement  # whether a key can follow another is judged when it is to (key_life)
    fault = first_fault(agreement)
    if fault is not None:
        raise Refused(Code.BAD_COMMITMENT, fault.message)
    return agreement


def perform(state: State, act: Act, time_ms: int, index: int) -> None:
    """Do an act at a log time, brought out by the entry with this index. Raises Refused if it cannot be done now."""
    if isinstance(act, KeyReplacements):
        key_life.replace_keys(state, act, time_ms, index)
        return
    before, agreement = state.agreement, outcome_of(state, act)
    # Nothing is refused from here on.
    state.agreement = agreement
    state.members = members_of(agreement, state.members)
    state.commitments.set_members(state.members, index, time_ms)
    match act:
        case Accession():
            membership.accede(state, act, time_ms)
        case Exit():
            membership.leave(state, act, time_ms)
        case Amendment():
            amendments.amend(state, before, act, time_ms, index)
