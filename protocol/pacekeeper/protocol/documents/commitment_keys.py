"""The rules between a commitment that replaces keys and who is a member of the agreement.

Whoever can replace a key can speak for its holder from then on. So it takes as many parties as a quorum of verifiers,
and it must not take the holder, whose key is lost or in another's hands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pacekeeper.protocol.commitments.pledges import Roll, satisfied
from pacekeeper.protocol.documents.blocks import DocumentError
from pacekeeper.protocol.documents.commitment_model import Commitment, KeyReplacement, Members
from pacekeeper.protocol.documents.tables import Table


def check_replacements(
    commitment: Commitment, replaced: Sequence[KeyReplacement], tables: list[Table], members: Members, roll: Roll
) -> Iterator[DocumentError]:
    """Yield every broken rule of a commitment of kind `keys`. roll: who may pledge to it."""
    found = [table for table in tables if table.name == "key"]
    holders: set[tuple[str, str]] = set()
    used = set(members.keys)
    for key, table in zip(replaced, found, strict=True):
        # SPEC commitments-14: who gets a key MUST be there, and the key be one that nobody has or had.
        if key.key in used:
            yield DocumentError(table.line_of("key"), "key: it is in use, or was; each job has its own")
        used.add(key.key)
        known = {"lab": members.labs.keys(), "log": {"log"}}.get(key.role, members.parties)
        if key.holder not in known:
            yield DocumentError(table.line_of("holder"), f'holder: there is no {key.role} "{key.holder}"')
        if (key.role, key.holder) in holders:
            message = f'holder: the key of {key.role} "{key.holder}" is replaced above already'
            yield DocumentError(table.line_of("holder"), message)
        holders.add((key.role, key.holder))
    yield from _check_rule(commitment, holders, tables, members, roll)


def _check_rule(
    commitment: Commitment, holders: set[tuple[str, str]], tables: list[Table], members: Members, roll: Roll
) -> Iterator[DocumentError]:
    rule = commitment.entry.rule
    entry = next(table for table in tables if table.name == "entry")
    named = len(rule.named & roll.parties.keys())
    # SPEC keys-10: a replacement MUST ask for as many parties as a quorum of verifiers, and MUST be possible without
    # the pledges of those whose party or lab key it replaces.
    if members.quorum is not None and max(rule.parties, named) < members.quorum.quorum:
        message = f"parties: keys are replaced by at least a quorum of the parties, {members.quorum.quorum}"
        yield DocumentError(entry.line_of("parties"), message)
    pledging = {holder for role, holder in holders if role in ("party", "lab")}
    everyone = roll.parties.keys() | roll.labs.keys()
    if pledging and satisfied(rule, roll, everyone) and not satisfied(rule, roll, everyone - pledging):
        message = "[entry]: it cannot be met without a holder whose key is replaced, and which may not have its key"
        yield DocumentError(entry.line, message)
