"""The life of keys: one put in the place of another, by its holder or by the parties.

A holder is a role and an id: a party's offline key, its verifier's statement key, a lab's, the log's (whose id is
"log"). Its keys are numbered from 1, the founding one, without holes. From the entry that puts a key in place the one
before signs nothing any more; what it signed earlier stays as valid as it was. So whether an entry counts depends on
its key and its leaf index alone, and of a rotation and a statement that race, the log's order decides.

    rotate    by the holder: the present key and the new one sign the same KeyRotation
    replace   by the parties: a commitment of kind `keys`, done when its delay is over

Specs: keys.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from pacekeeper.protocol.commitments.transitions import Phase
from pacekeeper.protocol.documents.agreement import Agreement
from pacekeeper.protocol.documents.commitment_model import KeyReplacement, KeyReplacements
from pacekeeper.protocol.envelope import Signed
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.keys import key_id
from pacekeeper.protocol.limits import MAX_KEY_EPOCH
from pacekeeper.protocol.replay.facts import Violation
from pacekeeper.protocol.replay.participants import Authority
from pacekeeper.protocol.replay.state import Retired, State, Verify
from pacekeeper.v1 import statements_pb2 as pb

RULES_WITH_SUCCESSORS: Final = 3  # the first version under which a key can be followed by another
ROLES: Final[dict[int, str]] = {
    pb.KEY_ROLE_PARTY: "party",
    pb.KEY_ROLE_VERIFIER: "verifier",
    pb.KEY_ROLE_LAB: "lab",
    pb.KEY_ROLE_LOG: "log",
}


class Holding(NamedTuple):
    """Which key a holder has: its epoch, and the 32 bytes."""

    epoch: int
    key: bytes


def present(state: State, role: str, holder: str) -> Holding | None:
    """Return the key that a holder has at this point of the log; None if there is no such holder (any more)."""
    agreement = state.agreement
    found: bytes | None = None
    match role:
        case "party":
            found = next((party.key for party in agreement.parties if party.id == holder), None)
        case "verifier":
            found = next((party.verifier.statement_key for party in agreement.parties if party.id == holder), None)
        case "lab":
            found = next((lab.key for lab in agreement.labs if lab.id == holder), None)
        case "log":
            found = agreement.log.statement_key if holder == "log" else None
    return None if found is None else Holding(state.epochs.get((role, holder), 1), found)


def authorise_rotation(state: State, signed: Signed, statement: pb.KeyRotation, verify: Verify) -> None:
    """Refuse a rotation that is not signed as it must be.

    SPEC keys-6: a rotation MUST be signed by the holder's present key and by the new one, and by nobody else.
    """
    role = ROLES[statement.role]
    holding = _holding(state, role, statement.holder)
    wanted = {key_id(holding.key): holding.key, key_id(statement.key): statement.key}
    for ident, _ in signed.signatures:
        if ident not in wanted:
            if ident not in state.keyring:
                raise not_in_force(state, ident)
            raise Refused(
                Code.WRONG_ROLE, f'a key other than that of {role} "{statement.holder}" and the new one has signed'
            )
    given = dict(signed.signatures)
    for ident, key in wanted.items():
        which = "present key" if key == holding.key else "new key, whose possession it would prove,"
        if ident not in given:
            raise Refused(Code.MISSING_SIGNATURE, f'the {which} of {role} "{statement.holder}" has not signed')
        if not verify(key, signed.message, given[ident]):
            raise Refused(Code.BAD_SIGNATURE, f'the {which} of {role} "{statement.holder}" did not make its signature')


def not_in_force(state: State, ident: bytes) -> Refused:
    """Say why a key that is not in the keyring may not sign.

    SPEC keys-7: a statement whose key was retired before its leaf index MUST be refused (key-retired).
    """
    retired = state.retired.get(ident)
    if retired is None:
        return Refused(Code.UNKNOWN_SIGNER, "signed by a key that the agreement does not have")
    how = "replaced by the parties" if retired.replaced else "rotated out"
    role, owner, _ = retired.authority
    return Refused(
        Code.KEY_RETIRED, f'signed by key {retired.epoch} of {role} "{owner}", {how} with entry {retired.index}'
    )


def outgoing(state: State, ident: bytes) -> Authority | None:
    """Return the log's former key at the one entry that brought out its replacement, else None.

    SPEC keys-13: the log's statement key, when the parties replace it, MUST stay in force for the entry that brings the
    replacement out: that is the log's own tick, whose signer could not know before it whether there are others.
    """
    retired = state.retired.get(ident)
    if retired is None or not retired.replaced or retired.index != state.size or retired.authority.role != "log":
        return None
    return retired.authority


def apply_rotation(
    state: State, statement: pb.KeyRotation, _id: bytes, _found: list[Violation], _reading: None
) -> None:
    """A holder's next key takes the place of its present one, from the next entry on."""
    role = ROLES[statement.role]
    successor = KeyReplacement(role, statement.holder, statement.epoch, statement.key)
    _check(state, [successor])
    _check_not_contested(state, role, statement.holder)
    _put(state, successor, state.last_time_ms, state.size, replaced=False)


def replace_keys(state: State, act: KeyReplacements, time_ms: int, index: int) -> None:
    """Do what the parties decided, all of it or, raising Refused, nothing.

    SPEC keys-11: keys that the parties replace together MUST be replaced together: if one of them cannot be any more,
    none is.
    """
    _check(state, act.keys)
    for successor in act.keys:
        _put(state, successor, time_ms, index, replaced=True)


def _check(state: State, successors: Sequence[KeyReplacement]) -> None:
    for successor in successors:
        holding = _holding(state, successor.role, successor.holder)
        # SPEC keys-5: a holder's keys MUST be numbered without holes, from 1 at founding, up to 10,000.
        if successor.epoch != holding.epoch + 1:
            raise Refused(
                Code.BAD_EPOCH,
                f'the next key of {successor.role} "{successor.holder}" is number {holding.epoch + 1}, '
                f"not {successor.epoch}",
            )
        if successor.epoch > MAX_KEY_EPOCH:
            raise Refused(Code.TOO_LARGE, f"a holder has at most {MAX_KEY_EPOCH} keys")
        # SPEC keys-8: a key that anybody has or had, for whatever job, MUST be refused (key-used).
        if successor.key in state.members.keys:
            raise Refused(Code.KEY_USED, "the new key is in use, or was; each job has its own")


def _check_not_contested(state: State, role: str, holder: str) -> None:
    """SPEC keys-12: while the parties have decided to replace a holder's key, or its own party has proposed it, the
    holder's rotation MUST be refused: whoever stole the key could otherwise keep it by rotating first."""
    own = next((lab.party for lab in state.agreement.labs if lab.id == holder), holder)
    for standing in state.commitments.standings().values():
        act = standing.terms.act
        if not isinstance(act, KeyReplacements) or standing.over:
            continue
        if standing.phase is Phase.OPEN and standing.proposer != own:
            continue
        if any((key.role, key.holder) == (role, holder) for key in act.keys):
            raise Refused(Code.REPLACEMENT_PENDING, f'"{standing.terms.id}" is to replace the key of {role} "{holder}"')


def _holding(state: State, role: str, holder: str) -> Holding:
    holding = present(state, role, holder)
    if holding is None:
        raise Refused(Code.UNKNOWN_PARTICIPANT, f'there is no {role} "{holder}"')
    return holding


def _put(state: State, successor: KeyReplacement, time_ms: int, index: int, *, replaced: bool) -> None:
    """Put a checked key in place: keyring, agreement in force, epochs and the keys that were ever used."""
    role, holder, epoch, key = successor.role, successor.holder, successor.epoch, successor.key
    holding = _holding(state, role, holder)
    former = state.keyring.pop(key_id(holding.key))
    state.retired[key_id(holding.key)] = Retired(former, holding.epoch, index, time_ms, replaced)
    state.keyring[key_id(key)] = Authority(role, holder, key)
    state.epochs[role, holder] = epoch
    # SPEC keys-9: the agreement in force MUST name the new key, and keep its fingerprint.
    state.agreement = with_key(state.agreement, role, holder, key)
    state.members = replace(state.members, keys=state.members.keys | {key})
    state.commitments.set_members(state.members, index, time_ms)


def with_key(agreement: Agreement, role: str, holder: str, key: bytes) -> Agreement:
    """Return an agreement in which a holder has another key. Its document and fingerprint are the founding ones."""
    match role:
        case "party":
            parties = (replace(party, key=key) if party.id == holder else party for party in agreement.parties)
            return replace(agreement, parties=tuple(parties))
        case "verifier":
            parties = (
                replace(party, verifier=replace(party.verifier, statement_key=key)) if party.id == holder else party
                for party in agreement.parties
            )
            return replace(agreement, parties=tuple(parties))
        case "lab":
            labs = (replace(lab, key=key) if lab.id == holder else lab for lab in agreement.labs)
            return replace(agreement, labs=tuple(labs))
        case _:
            return replace(agreement, log=replace(agreement.log, statement_key=key))
