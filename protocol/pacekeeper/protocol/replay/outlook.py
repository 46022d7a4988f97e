"""How commitments stood at a time between two entries, or would stand at one that the log has not come to.

    state = ...                                   # replayed up to the last entry that is not after time_ms
    stand_at(state, time_ms, next_ms)             # next_ms: the log time of the entry after it; None at the head

Only for a state that is shown and then thrown away: what is played here is no fact, and no replay goes on from it.

A past time stood between two entries, and the later one says what fell due before it: everything up to the time, or,
where the log was silent for longer than a tick, nothing, since that moves deadlines behind the silence (replay-4).
Ahead of the head the commitments' own deadlines are played, in their order, as if nothing more were said: no pledge,
vote, withdrawal or report. Labs are taken to give the accounts that they owe, and none with a violation in it.
"""

from __future__ import annotations

import heapq
from typing import Final

from pacekeeper.protocol import limits
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay import commitments
from pacekeeper.protocol.replay.deadlines import advance
from pacekeeper.protocol.replay.facts import Violation
from pacekeeper.protocol.replay.state import State

_OURS: Final = "commitment-"  # what deadlines of commitments are called


def stand_at(state: State, time_ms: int, next_ms: int | None) -> None:
    """Bring a state's commitments to a time after its last entry. ValueError unless the time is before next_ms.

    Raises Refused(too-large) if more deadlines fall due until then than are played.
    SPEC commitments-75: how commitments stand at a time MUST be what the replay brings about up to it, by the entries
    and deadlines there are, and ahead of the head by the deadlines alone.
    """
    if time_ms < state.last_time_ms or (next_ms is not None and not time_ms < next_ms):
        raise ValueError("the time is not one between the last entry and the next")
    before_ms = state.last_time_ms
    if next_ms is None:
        _look_ahead(state, time_ms)
    elif next_ms - before_ms <= state.agreement.timing.tick_ms:
        found: list[Violation] = []
        advance(state, time_ms, state.size, found)
        state.convict(found)
    # No entry says that the log's time has gone on.
    state.last_time_ms = before_ms


def _look_ahead(state: State, time_ms: int) -> None:
    """Play the commitments' deadlines, each at its time."""
    state.deadlines = sorted(deadline for deadline in state.deadlines if deadline[1].startswith(_OURS))  # and so a heap
    for _ in range(limits.MAX_SIMULATED):
        if not state.deadlines or state.deadlines[0][0] > time_ms:
            return
        due_ms, kind, subject, _ = heapq.heappop(state.deadlines)
        _account_until(state, due_ms)
        commitments.fire(state, kind, subject, due_ms, state.size)
    raise Refused(Code.TOO_LARGE, f"over {limits.MAX_SIMULATED} deadlines fall due until then")


def _account_until(state: State, time_ms: int) -> None:
    """Take it that every lab has given the accounts that are due by a time, without a violation."""
    calendar = state.agreement.calendar
    due_period = state.agreement.period_of(time_ms - calendar.due_ms)
    state.last_time_ms = time_ms
    for lab in state.labs.values():
        lab.due_period = max(lab.due_period, due_period)
