"""What a statement about a commitment can be refused for, apart from where the commitment is in its life."""

from __future__ import annotations

from pacekeeper.protocol import limits
from pacekeeper.protocol.commitments.book import Book
from pacekeeper.protocol.commitments.lifecycle import would_bind
from pacekeeper.protocol.commitments.pledges import Alternatives, Condition, Roll, satisfied
from pacekeeper.protocol.commitments.standing import Standing
from pacekeeper.protocol.commitments.transitions import Phase
from pacekeeper.protocol.documents.commitment_model import Members, Scope
from pacekeeper.protocol.errors import Code, Refused


def check_participant(members: Members, participant: str) -> None:
    """Refuse who is no party and no lab."""
    if participant not in members.parties and participant not in members.labs:
        raise Refused(Code.UNKNOWN_PARTICIPANT, f'there is no participant "{participant}"')


def check_scope(standing: Standing, participant: str) -> None:
    """Refuse who may not pledge: a scope closes a commitment; without one, also who acceded later may."""
    if standing.terms.scope != Scope() and participant not in standing.roll.parties.keys() | standing.roll.labs.keys():
        raise Refused(Code.NOT_IN_SCOPE, f'"{standing.terms.id}" is not open to "{participant}"')


def check_conditions(roll: Roll, alternatives: Alternatives) -> None:
    """Refuse conditions that could never hold, whoever pledges.

    SPEC commitments-39: each condition of a pledge MUST be one that all who may pledge together meet.
    """
    if len(alternatives) > limits.MAX_ALTERNATIVES:
        raise Refused(Code.TOO_LARGE, f"over {limits.MAX_ALTERNATIVES} alternatives")
    everyone = roll.parties.keys() | roll.labs.keys()
    for condition in alternatives:
        strangers = sorted(condition.named - everyone)
        if strangers:
            raise Refused(Code.BAD_CONDITION, f'a condition on "{strangers[0]}", who may not pledge')
        if condition.weight_ppm and not sum(roll.parties.values()):
            raise Refused(Code.BAD_CONDITION, "a condition on weight, which nobody has")
        if not satisfied(condition, roll, everyone):
            raise Refused(Code.BAD_CONDITION, "a condition that not even everyone together could meet")


def check_joins_now(book: Book, standing: Standing, participant: str, alternatives: Alternatives) -> None:
    """Refuse a late joiner who would not be bound at once: after the deadline no pledge waits."""
    needed = standing.terms.entry.clean_periods
    if book.clean.get(participant, 0) < needed:
        raise Refused(Code.NOT_CLEAN, f"joining takes {needed} clean periods")
    if participant not in would_bind(book, standing, {participant: alternatives}):
        raise Refused(Code.CONDITION_NOT_MET, "the condition does not hold of those bound, and the deadline is over")


def check_pledge(standing: Standing, participant: str, pledge_index: int | None) -> None:
    """Refuse a statement about another pledge of the participant than the one that stands."""
    stands = standing.pledged_at.get(participant)
    if pledge_index not in (None, stands):
        raise Refused(Code.WRONG_ROUND, f'the pledge of "{participant}" that stands is that at index {stands}')


def check_vote(standing: Standing, participant: str, rule: Condition | None, time_ms: int) -> None:
    """Refuse a vote on a commitment's end by who is not bound, or where there is nothing to vote on."""
    if standing.phase not in (Phase.ARMED, Phase.IN_FORCE):
        raise Refused(Code.ABSENT_TRANSITION, f'"{standing.terms.id}" is {standing.phase}')
    if rule is None:
        raise Refused(Code.NOT_LIFTABLE, "its terms give nobody this decision")
    if participant not in standing.bound:
        raise Refused(Code.NOT_BOUND, f'"{participant}" has not bound itself to "{standing.terms.id}"')
    assert standing.in_force_ms is not None
    if time_ms and time_ms < standing.in_force_ms + standing.terms.term.minimum_ms:
        raise Refused(Code.NOT_LIFTABLE, "its minimum term is not over")
