"""The rules between a commitment's terms and who is a member of the agreement when it is proposed.

A document alone cannot break them: the same text may be fit for one agreement and not for another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from pacekeeper.protocol.commitments.pledges import Condition, Roll
from pacekeeper.protocol.documents.blocks import DocumentError
from pacekeeper.protocol.documents.commitment_keys import check_replacements
from pacekeeper.protocol.documents.commitment_model import (
    Accession,
    Amendment,
    Commitment,
    Exit,
    KeyReplacements,
    Members,
    Pause,
    SlowDown,
)
from pacekeeper.protocol.documents.model import Lab, Party
from pacekeeper.protocol.documents.tables import Table
from pacekeeper.protocol.units import format_duration

_REACTION_SINCE: Final = 3  # version of the rules


def line_in(tables: Sequence[Table], name: str, key: str = "") -> int:
    """Return the line of a key of the first table of a name (or of table.part); without one, the last table's."""
    owner, _, part = name.partition(".")
    for table in tables:
        if table.name == owner:
            return (table.parts.get(part, table) if part else table).line_of(key)
    return tables[-1].line


def roll_of(commitment: Commitment, members: Members) -> Roll:
    """Return who counts under a commitment proposed now: whom its scope names, or everyone, with the weights it gives.

    SPEC commitments-9: weights and named sets MUST freeze when the commitment is proposed.
    """
    scope = commitment.scope
    everyone = not scope.parties and not scope.labs
    parties = members.parties if everyone else members.parties & scope.parties
    labs = {lab: party for lab, party in members.labs.items() if everyone or lab in scope.labs or party in parties}
    return Roll({party: commitment.weights.get(party, 0) for party in sorted(parties)}, labs)


def check_members(commitment: Commitment, tables: list[Table], members: Members) -> Iterator[DocumentError]:
    """Yield every broken rule between a commitment and the members."""
    roll = roll_of(commitment, members)
    yield from _check_scope(commitment, tables, members)
    yield from _check_rules(commitment, tables, roll)
    yield from _check_reporters(commitment, tables, members)
    yield from _check_lease(commitment, tables, members)
    yield from _check_act(commitment, tables, members)
    yield from _check_quorum(commitment, tables, members)
    yield from _check_deciders(commitment, tables, members)


def _check_scope(commitment: Commitment, tables: list[Table], members: Members) -> Iterator[DocumentError]:
    # SPEC commitments-10: whoever a commitment names MUST be a participant of its scope.
    for key, named, known in (
        ("parties", commitment.scope.parties, members.parties),
        ("labs", commitment.scope.labs, members.labs.keys()),
    ):
        for stranger in sorted(named - known):
            yield DocumentError(line_in(tables, "scope", key), f'{key}: there is no participant "{stranger}"')
    weighed = [table for table in tables if table.name == "weight"]
    for table in weighed:
        party = str(table.values["party"])
        if party not in members.parties:
            yield DocumentError(table.line_of("party"), f'party: there is no party "{party}"')
    for table in tables:
        if table.name == "cap" and "subjects" in table.lines:
            subjects, kind = table.values["subjects"], table.values["kind"]
            assert isinstance(subjects, list)
            for subject in subjects:
                if subject not in (members.parties if kind == "party" else members.labs):
                    yield DocumentError(table.line_of("subjects"), f'subjects: there is no {kind} "{subject}"')


def _check_rules(commitment: Commitment, tables: list[Table], roll: Roll) -> Iterator[DocumentError]:
    yield from _check_rule("entry", commitment.entry.rule, tables, roll)
    if commitment.lifting.by is not None:
        yield from _check_rule("lifting", commitment.lifting.by, tables, roll)
    if commitment.term.extended_by is not None:
        yield from _check_rule("term.extension", commitment.term.extended_by, tables, roll)


def _check_rule(table: str, rule: Condition, tables: list[Table], roll: Roll) -> Iterator[DocumentError]:
    # SPEC commitments-11: an entry, lifting or extension rule MUST be one that all who may pledge together meet.
    if rule.parties > len(roll.parties):
        message = f"parties: {rule.parties} can never be met, since {len(roll.parties)} may pledge"
        yield DocumentError(line_in(tables, table, "parties"), message)
    if rule.labs > len(roll.labs):
        message = f"labs: {rule.labs} can never be met, since {len(roll.labs)} may pledge"
        yield DocumentError(line_in(tables, table, "labs"), message)
    for stranger in sorted(rule.named - roll.parties.keys() - roll.labs.keys()):
        message = f'named: "{stranger}" is no participant that may pledge'
        yield DocumentError(line_in(tables, table, "named"), message)
    if rule.weight_ppm and not sum(roll.parties.values()):
        yield DocumentError(line_in(tables, table, "weight"), "weight: nobody that may pledge has any")


def _check_reporters(commitment: Commitment, tables: list[Table], members: Members) -> Iterator[DocumentError]:
    # SPEC commitments-12: an indicator's reporters MUST be labs, or parties when its source is external.
    if commitment.triggers is None:
        return
    found = [table for table in tables if table.name == "indicator"]
    for indicator, table in zip(commitment.triggers.indicators, found, strict=True):
        known, word = (members.labs.keys(), "lab") if indicator.source == "lab" else (members.parties, "party")
        for stranger in sorted(set(indicator.reporters) - known):
            yield DocumentError(table.line_of("reporters"), f'reporters: there is no {word} "{stranger}"')


def reaction_ms(commitment: Commitment) -> int | None:
    """Return how long a pause or slow-down gives from the entry that fixes it until it bites; None for other kinds."""
    match commitment.measure:
        case Pause(wind_down_ms=wind_down_ms) | SlowDown(wind_down_ms=wind_down_ms):
            entry = commitment.entry
            return wind_down_ms + (entry.notice_ms if commitment.triggers else max(entry.notice_ms, entry.delay_ms))
        case _:
            return None


def _check_lease(commitment: Commitment, tables: list[Table], members: Members) -> Iterator[DocumentError]:
    found_ms = reaction_ms(commitment)
    if found_ms is None:
        return
    words = f"{'notice' if commitment.triggers else 'delay'} and wind-down are {format_duration(found_ms)}"
    # SPEC commitments-13: with a lease, the time from an entry to its hold MUST be at least lease plus tolerance.
    if commitment.lease is not None and found_ms < (needed_ms := commitment.lease.lease_ms + members.tolerance_ms):
        message = f"lease: a gate could miss the beginning: {words}, lease and tolerance {format_duration(needed_ms)}"
        yield DocumentError(line_in(tables, "lease", "lease"), message)
    # SPEC commitments-70: and without one, at least the tolerance, from version 3 of the rules on.
    if members.rules_version >= _REACTION_SINCE and found_ms < members.tolerance_ms:
        message = f"wind_down: a clock could be past it: {words}, the tolerance {format_duration(members.tolerance_ms)}"
        yield DocumentError(line_in(tables, str(commitment.kind), "wind_down"), message)


def _check_act(commitment: Commitment, tables: list[Table], members: Members) -> Iterator[DocumentError]:
    # SPEC commitments-14: who accedes MUST be new, and who leaves or gets a key MUST be there.
    match commitment.act:
        case Accession(parties=parties, labs=labs):
            joining = {party.id for party in parties}
            yield from _check_new_keys(parties, labs, tables, members)
            for table in tables:
                if table.name in ("party", "lab") and table.values["id"] in members.parties | members.labs.keys():
                    message = f'id: "{table.values["id"]}" is a participant already'
                    yield DocumentError(table.line_of("id"), message)
                if table.name in ("party", "lab") and table.values["id"] in members.former:
                    message = f'id: "{table.values["id"]}" was that of a participant that has left; ids are for ever'
                    yield DocumentError(table.line_of("id"), message)
                if table.name == "lab" and table.values["party"] not in members.parties | joining:
                    yield DocumentError(table.line_of("party"), f'party: there is no party "{table.values["party"]}"')
        case Exit(party=party) if party not in members.parties:
            yield DocumentError(line_in(tables, "exit", "party"), f'party: there is no party "{party}"')
        case KeyReplacements(keys=replaced):
            yield from check_replacements(commitment, replaced, tables, members, roll_of(commitment, members))
        case _:
            return


def _check_quorum(commitment: Commitment, tables: list[Table], members: Members) -> Iterator[DocumentError]:
    # SPEC commitments-45: the quorum that an act leaves MUST be one by documents-17 for the parties that it leaves.
    act = commitment.act
    if not isinstance(act, Accession | Exit | Amendment):
        return
    joining = len(act.parties) if isinstance(act, Accession) else 0
    n = len(members.parties) + joining - isinstance(act, Exit)
    terms = act.quorum or members.quorum
    if terms is None or (act.quorum is None and n == len(members.parties)):
        return
    q, f = terms.quorum, terms.liars
    if 2 * q - n <= f or q > n - f:
        named = any(table.name == "quorum" for table in tables)
        line = line_in(tables, "quorum", "quorum") if named else line_in(tables, "commitment", "kind")
        message = f"quorum: {q} of the {n} that there would be, {f} of them lying, is none; say in [quorum] which is"
        yield DocumentError(line, message)


def _check_deciders(commitment: Commitment, tables: list[Table], members: Members) -> Iterator[DocumentError]:
    # SPEC commitments-56: an accession, exit or amendment MUST ask for as many parties as a quorum of verifiers, by
    # number or by name; an exit may ask for the party that leaves instead.
    act, rule = commitment.act, commitment.entry.rule
    if members.quorum is None or not isinstance(act, Accession | Exit | Amendment):
        return
    own = isinstance(act, Exit) and act.party in rule.named
    if not own and max(rule.parties, len(rule.named & members.parties)) < members.quorum.quorum:
        alone = ", or the one that leaves, by name" if isinstance(act, Exit) else ""
        message = f"parties: this is decided by at least a quorum of the parties, {members.quorum.quorum}{alone}"
        yield DocumentError(line_in(tables, "entry", "parties"), message)


def _check_new_keys(
    parties: tuple[Party, ...], labs: tuple[Lab, ...], tables: list[Table], members: Members
) -> Iterator[DocumentError]:
    found: list[tuple[bytes, int]] = []
    for party, table in zip(parties, (table for table in tables if table.name == "party"), strict=True):
        part, verifier = table.parts["verifier"], party.verifier
        found += [
            (party.key, table.line_of("key")),
            (verifier.statement_key, part.line_of("statement_key")),
            (verifier.cosign_key.public_key, part.line_of("cosign_key")),
            (verifier.tls_spki, part.line_of("tls_spki")),
        ]
    for lab, table in zip(labs, (table for table in tables if table.name == "lab"), strict=True):
        found += [(lab.key, table.line_of("key")), (lab.tls_spki, table.line_of("tls_spki"))]
    seen = set(members.keys)
    for value, line in sorted(found, key=lambda pair: pair[1]):
        if value in seen:
            yield DocumentError(line, "this key is in use, or was; each job has its own")
        seen.add(value)
