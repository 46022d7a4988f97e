"""Deadlines: what becomes a fact because nothing happened.

Before an entry is applied, every deadline up to the entry's time fires, in the order (time, kind, subject). A silence
of the log, longer than the agreement's tick interval, moves what fell due in it or soon after it first: nobody is made
guilty by an outage.
"""

from __future__ import annotations

import heapq

from pacekeeper.protocol.compute.calendar import Silence, shift_by_silence
from pacekeeper.protocol.replay import commitments, conduct, growth, membership
from pacekeeper.protocol.replay.caps import resolve
from pacekeeper.protocol.replay.facts import Violation, ViolationKind
from pacekeeper.protocol.replay.state import State


def advance(state: State, time_ms: int, index: int, found: list[Violation]) -> None:
    """Move log time to time_ms: note a silence, then fire what falls due. New violations are appended to found.

    SPEC replay-3: deadlines up to an entry's time MUST fire, in the order (time, kind, subject), before it is applied.
    """
    last = state.last_time_ms
    if time_ms - last > state.agreement.timing.tick_ms:
        _note_silence(state, Silence(last, time_ms))
    state.last_time_ms = time_ms
    deadlines = state.deadlines
    while deadlines and deadlines[0][0] <= time_ms:
        due_ms, kind, subject, period = heapq.heappop(deadlines)
        if kind == "account":
            _account_due(state, subject, period, due_ms, index, found)
        elif kind.startswith("resolve "):
            resolve(state, kind.removeprefix("resolve "), subject, period, due_ms, index, found)
        elif kind == membership.FORGET:
            membership.forget(state, subject, period, due_ms)
        elif kind.startswith("commitment-"):
            commitments.fire(state, kind, subject, due_ms, index)
        elif kind.startswith(growth.CLOSE):
            growth.close_window(state, kind.removeprefix(growth.CLOSE), subject, period, due_ms, index, found)
        else:
            conduct.fall_due(state, kind, subject, period, due_ms, index, found)


def _note_silence(state: State, silence: Silence) -> None:
    state.silences.add(silence)
    state.deadlines = [
        (shift_by_silence(due, silence), kind, subject, period) for due, kind, subject, period in state.deadlines
    ]
    heapq.heapify(state.deadlines)


def _account_due(state: State, subject: str, period: int, due_ms: int, index: int, found: list[Violation]) -> None:
    """SPEC replay-5: a period without an account at its deadline MUST become a violation, gap or no gap."""
    lab = state.labs[subject]
    if not lab.owes(period):
        return
    if period not in lab.accounts:
        lab.missing.add(period)
        found.append(Violation(ViolationKind.PERIOD_MISSING, subject, period, index, due_ms))
    lab.due_period = period + 1
    state.push_deadline("account", subject, period + 1, state.agreement.due_ms(period + 1))
