"""Commitments in the replay: each statement handed to the registry, and each of its deadlines to the replay's queue.

The registry (protocol/commitments) decides; this file says when. Log time and index are the state's, so that what
comes into force when is a function of the log alone. Before a pledge is judged, and before pledges close, the registry
is told how many clean periods each pledger has.
"""

from __future__ import annotations

from collections.abc import Iterable

from pacekeeper.protocol import limits
from pacekeeper.protocol.commitments.entry import entry_ms
from pacekeeper.protocol.commitments.lifecycle import PLEDGES
from pacekeeper.protocol.commitments.standing import Standing
from pacekeeper.protocol.commitments.statements import read_alternatives, read_report
from pacekeeper.protocol.documents.blocks import DocumentError
from pacekeeper.protocol.documents.commitment import compile_commitment
from pacekeeper.protocol.documents.commitment_model import CapLimits, Growth
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay import acts, membership
from pacekeeper.protocol.replay.facts import Violation
from pacekeeper.protocol.replay.state import State
from pacekeeper.v1 import statements_pb2 as pb


def apply_commitment(
    state: State, statement: pb.Commitment, _id: bytes, _found: list[Violation], _reading: None
) -> None:
    """A commitment is proposed.

    SPEC commitments-1: its document MUST compile, given the members of the agreement at its log position.
    SPEC commitments-42: a kind that the agreement's rules version does not judge or perform MUST be refused.
    """
    try:
        terms = compile_commitment(statement.document, state.members)
    except DocumentError as error:
        raise Refused(Code.BAD_COMMITMENT, str(error)) from None
    version = state.agreement.rules_version
    if terms.kind not in acts.KINDS[version]:
        raise Refused(Code.BAD_COMMITMENT, f"rules version {version} does not judge or perform {terms.kind}")
    if terms.act is not None:
        acts.outcome_of(state, terms.act)
        membership.check_notice(state, terms, state.last_time_ms, entry_ms(terms.entry, state.last_time_ms))
    state.commitments.propose(terms, statement.proposer, state.size, state.last_time_ms)
    follow_up(state)


def apply_pledge(state: State, statement: pb.Pledge, _id: bytes, _found: list[Violation], _reading: None) -> None:
    """A participant pledges, if need be on conditions.

    SPEC commitments-43: a pledge MUST name the digest of the commitment's document.
    """
    registry = state.commitments
    standing = registry.standing(statement.commitment)
    if statement.digest != standing.terms.digest:
        raise Refused(Code.BAD_COMMITMENT, f'"{statement.commitment}" has another document than the one pledged to')
    _check_windowed(state, standing, statement.participant)
    told = registry.clean_periods()
    _tell_clean_periods(state, standing, [*standing.pledges, statement.participant])
    try:
        registry.pledge(
            statement.participant,
            statement.commitment,
            read_alternatives(statement),
            state.size,
            state.last_time_ms,
            round_number=statement.round,
        )
    except Refused:
        registry.restore_clean_periods(told)  # SPEC replay-11: a refusal MUST have no effect, on a log as on a replay
        raise
    follow_up(state)


def _check_windowed(state: State, standing: Standing, participant: str) -> None:
    """SPEC commitments-69: nobody MUST have pledged to more growth limits and caps than each figure is judged under."""
    if _is_windowed(standing):
        known = [other for other in state.commitments.pledged_by(participant) if _is_windowed(other)]
        if len(known) >= limits.MAX_WINDOWED:
            raise Refused(
                Code.TOO_LARGE, f'"{participant}" has pledged to {limits.MAX_WINDOWED} growth limits and caps'
            )


def _is_windowed(standing: Standing) -> bool:
    return isinstance(standing.terms.measure, CapLimits | Growth)


def apply_withdrawal(
    state: State, statement: pb.Withdrawal, _id: bytes, _found: list[Violation], _reading: None
) -> None:
    """A participant takes its pledge back, at once or after notice."""
    state.commitments.withdraw(
        statement.participant,
        statement.commitment,
        statement.reason,
        state.size,
        state.last_time_ms,
        pledge_index=statement.pledge_index,
    )
    follow_up(state)


def apply_lift(state: State, statement: pb.Lift, _id: bytes, _found: list[Violation], _reading: None) -> None:
    """One bound participant's word for lifting or extending."""
    registry, index, time_ms = state.commitments, state.size, state.last_time_ms
    who, commitment, pledge_index = statement.participant, statement.commitment, statement.pledge_index
    if statement.action == pb.LIFT_ACTION_LIFT:
        registry.lift(who, commitment, index, time_ms, pledge_index=pledge_index)
    else:
        registry.extend(who, commitment, index, time_ms, pledge_index=pledge_index, round_number=statement.round)
    follow_up(state)


def apply_report(
    state: State, statement: pb.IndicatorReport, _id: bytes, _found: list[Violation], _reading: None
) -> None:
    """What was measured of an indicator."""
    state.commitments.report(read_report(statement), state.size, state.last_time_ms)
    follow_up(state)


def fire(state: State, kind: str, subject: str, due_ms: int, index: int) -> None:
    """A deadline of the registry is due."""
    registry = state.commitments
    if kind == PLEDGES:
        standing = registry.standing(subject.partition(" ")[0])
        _tell_clean_periods(state, standing, standing.pledges)
    registry.fire(kind, subject, due_ms, index)
    follow_up(state)


def follow_up(state: State) -> None:
    """Do the acts whose time has come, and put the deadlines that the registry has come to need into the queue.

    SPEC commitments-46: an act that cannot be done any more when its time comes MUST have no effect, and be shown so.
    SPEC commitments-59: acts of one time MUST be done in the order of their commitments' ids, as their deadlines fire.
    """
    registry = state.commitments
    while performed := registry.performed():
        for act in performed:
            standing = registry.standing(act.commitment)
            assert standing.met_ms is not None
            try:
                membership.check_notice(state, standing.terms, standing.met_ms, act.time_ms)
                acts.perform(state, act.act, act.time_ms, act.index)
            except Refused:
                registry.undone(act)
            else:
                state.acts.append(act)
    for deadline in registry.deadlines():
        state.push_deadline(deadline.kind, deadline.subject, 0, deadline.time_ms)


def _tell_clean_periods(state: State, standing: Standing, participants: Iterable[str]) -> None:
    if standing.terms.entry.clean_periods:
        for participant in participants:
            state.commitments.set_clean_periods(participant, state.clean_periods(participant))
