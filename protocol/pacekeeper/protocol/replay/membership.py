"""Who joins the agreement and who leaves it, and what the log still owes and is owed.

Whoever accedes gives accounts from the first period that begins after the act. Whoever leaves loses its say at once;
its labs owe the accounts of every period that had begun by then, and keep their key for those until they are closed.
Ids and keys are for ever: nobody comes back under those of one that has left.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pacekeeper.protocol.commitments.standing import Standing
from pacekeeper.protocol.commitments.transitions import Phase
from pacekeeper.protocol.commitments.withdrawal import effect_ms
from pacekeeper.protocol.documents.commitment_model import Accession, Commitment, Exit
from pacekeeper.protocol.documents.model import Agreement, Cap, Lab, Party, Quorum
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.limits import MAX_TIME_MS
from pacekeeper.protocol.replay.labs import LabState
from pacekeeper.protocol.replay.participants import authorities_of
from pacekeeper.protocol.replay.state import State
from pacekeeper.protocol.replay.watches import watches_of
from pacekeeper.protocol.units import format_time

FORGET: Final = "exit"  # the deadline at which a lab that has left owes nothing any more


def joined(state: State, act: Accession) -> Agreement:
    """Return the agreement with who accedes in it. Raises Refused for an id or key that is or was in use."""
    agreement, members = state.agreement, state.members
    for who in _newcomers(act):
        # SPEC commitments-47: ids and keys MUST be for ever: nobody accedes under those of one that has left.
        if who.id in members.former:
            raise Refused(Code.BAD_COMMITMENT, f'"{who.id}" was the id of a participant that has left')
    if not all(members.keys.isdisjoint(who.all_keys()) for who in _newcomers(act)):
        raise Refused(Code.BAD_COMMITMENT, "a key is in use, or was; each job has its own")
    parties = agreement.parties + act.parties
    return replace(
        agreement, parties=parties, labs=agreement.labs + act.labs, quorum=_quorum(agreement, act.quorum, len(parties))
    )


def left(state: State, act: Exit) -> Agreement:
    """Return the agreement without a party and its labs. Raises Refused when it has no such party."""
    agreement = state.agreement
    parties = tuple(party for party in agreement.parties if party.id != act.party)
    if len(parties) == len(agreement.parties):
        raise Refused(Code.BAD_COMMITMENT, f'there is no party "{act.party}"')
    labs = tuple(lab for lab in agreement.labs if lab.party != act.party)
    gone = {act.party, *(lab.id for lab in agreement.labs if lab.party == act.party)}
    return replace(
        agreement,
        parties=parties,
        labs=labs,
        quorum=_quorum(agreement, act.quorum, len(parties)),
        caps=tuple(kept for cap in agreement.caps if (kept := _without(cap, gone)) is not None),
    )


def _newcomers(act: Accession) -> tuple[Party | Lab, ...]:
    return (*act.parties, *act.labs)


def _quorum(agreement: Agreement, quorum: Quorum | None, verifiers: int) -> Quorum:
    return replace(quorum or agreement.quorum, verifiers=verifiers)


def _without(cap: Cap, gone: set[str]) -> Cap | None:
    """A cap without those subjects; none when it was on nobody else, since a cap without subjects is on all."""
    if gone.isdisjoint(cap.subjects):
        return cap
    subjects = tuple(subject for subject in cap.subjects if subject not in gone)
    return replace(cap, subjects=subjects) if subjects else None


def check_notice(state: State, terms: Commitment, noticed_ms: int, done_ms: int) -> None:
    """Refuse the exit of a party that decides on it itself, if it is done before what binds it could be left.

    SPEC commitments-57: such an exit MUST NOT be done before the party and its labs could have left every commitment
    that binds them, by a withdrawal given when the exit was decided.
    """
    act = terms.act
    if not isinstance(act, Exit) or act.party not in terms.entry.rule.named:
        return
    leaving = {act.party, *(lab.id for lab in state.agreement.labs if lab.party == act.party)}
    for standing in state.commitments.standings().values():
        for who in sorted(leaving & standing.bound.keys()) if standing.live and standing.terms.measure else ():
            free_ms = standing.leaving.get(who) or _free_ms(standing, noticed_ms)
            if free_ms > done_ms:
                sentence = f'"{standing.terms.id}" binds {who} until {format_time(free_ms)}, if the exit is its notice'
                raise Refused(Code.BAD_COMMITMENT, sentence)


def _free_ms(standing: Standing, noticed_ms: int) -> int:
    """When a withdrawal given at a time, or as soon as it can be, takes effect."""
    rule, in_force_ms = standing.terms.withdrawal, standing.in_force_ms or 0
    if standing.phase is not Phase.PENDING and rule.not_before_ms:
        noticed_ms = max(noticed_ms, in_force_ms + rule.not_before_ms)
    try:
        return effect_ms(standing.terms, standing.phase, standing.in_force_ms, noticed_ms, "exit")
    except Refused:
        return MAX_TIME_MS


def accede(state: State, act: Accession, time_ms: int) -> None:
    """Give those that have acceded their keys and their place; the agreement in force has them already.

    SPEC commitments-48: accounts of a lab that accedes MUST begin with the first period that begins after the act.
    """
    first = state.next_period(time_ms)
    state.keyring.update(authorities_of(act.parties, act.labs))
    for who in _newcomers(act):
        state.joined[who.id] = first
    for lab in act.labs:
        state.labs[lab.id] = LabState(lab.id, lab.party, first, first)
        state.push_deadline("account", lab.id, first, state.agreement.due_ms(first))
    state.watches = watches_of(state.agreement, first, state.watches)


def leave(state: State, act: Exit, time_ms: int) -> None:
    """Take a party's say from it; leave its labs theirs in what they owe.

    SPEC commitments-49: a party that leaves MUST lose its authority, and its verifier's, at once; its labs MUST owe the
    accounts of the periods that had begun by then, and nothing later.
    """
    last = state.next_period(time_ms) - 1
    _retire(state, act.party)
    for lab in state.labs.values():
        if lab.party == act.party:
            lab.last_period = last
            state.push_deadline(FORGET, lab.id, last, state.agreement.fill_in_ms(last) + 1)


def forget(state: State, lab_id: str, period: int, due_ms: int) -> None:
    """The last account that a lab owed takes nothing any more: its key goes, and what was kept to judge it."""
    if not state.is_closed(period):
        state.push_deadline(FORGET, lab_id, period, due_ms + 1)
        return
    _retire(state, lab_id)
    state.watches.pop(lab_id, None)


def _retire(state: State, owner: str) -> None:
    """Take the keys of who has left out of the keyring. What they signed stays theirs, for evidence of it."""
    for key_id in [key_id for key_id, authority in state.keyring.items() if authority.owner == owner]:
        state.former_keys[key_id] = state.keyring.pop(key_id)
