"""Replay: the state of the agreement as a pure function of the log's entries.

    state = genesis(first_entry)          # the founding agreement
    outcome = apply(state, next_entry)    # Applied, or Void: total, never raises on bytes
    projection = state.at(now)            # for gates and status lines; creates no fact

The log server, every verifier, every lab and every auditor run this code over the same bytes and reach the same state.
"""

from pacekeeper.protocol.replay.apply import Applied, Void, admit, apply, apply_read, genesis
from pacekeeper.protocol.replay.facts import Violation, ViolationKind
from pacekeeper.protocol.replay.labs import LabState
from pacekeeper.protocol.replay.state import Projection, State

__all__ = [
    "Applied",
    "LabState",
    "Projection",
    "State",
    "Violation",
    "ViolationKind",
    "Void",
    "admit",
    "apply",
    "apply_read",
    "genesis",
]
