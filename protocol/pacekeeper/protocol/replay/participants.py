"""Participants: who the members of an agreement are, and which keys speak for whom."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pacekeeper.protocol.documents.agreement import Agreement, Lab, Party
from pacekeeper.protocol.documents.commitment_model import Members
from pacekeeper.protocol.keys import key_id


class Authority(NamedTuple):
    """Who holds a key and for what: role is "party", "verifier", "lab" or "log"; owner is an id."""

    role: str
    owner: str
    public_key: bytes


def members_of(agreement: Agreement, before: Members | None = None) -> Members:
    """Return who the members of an agreement are, with every key that is in use.

    before: who they were until now. Keys and ids that have been in use stay known for ever.
    """
    keys = {agreement.log.statement_key, agreement.log.tls_spki, agreement.log.key.public_key}
    keys |= {key for party in agreement.parties for key in party.all_keys()}
    keys |= {key for lab in agreement.labs for key in lab.all_keys()}
    parties = frozenset(party.id for party in agreement.parties)
    labs = {lab.id: lab.party for lab in agreement.labs}
    former: frozenset[str] = frozenset()
    if before is not None:
        keys |= before.keys
        former = before.former | (before.parties | before.labs.keys()) - (parties | labs.keys())
    tolerance_ms, version = agreement.timing.tolerance_ms, agreement.rules_version
    return Members(parties, labs, tolerance_ms, frozenset(keys), agreement.quorum, former, version)


def authorities_of(parties: Iterable[Party], labs: Iterable[Lab]) -> dict[bytes, Authority]:
    """Return the keys with which parties, their verifiers and labs sign statements, by key id."""
    found: list[Authority] = []
    for party in parties:
        found.append(Authority("party", party.id, party.key))
        found.append(Authority("verifier", party.id, party.verifier.statement_key))
    found.extend(Authority("lab", lab.id, lab.key) for lab in labs)
    return {key_id(authority.public_key): authority for authority in found}
