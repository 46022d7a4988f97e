"""Acts: what a commitment does once, when its time has come, to the agreement and its members.

The agreement in force is `state.agreement`; an act puts another in its place, which has the same fingerprint. Each act
checks first and changes after: one that can no longer be done is refused, and then nothing has changed.
"""

from __future__ import annotations

from typing import Final

from pacekeeper.protocol.documents.commitment_model import Act, KeyReplacements, Kind
from pacekeeper.protocol.replay import key_life
from pacekeeper.protocol.replay.state import State

# SPEC commitments-42: which kinds of commitment a version of the rules judges or performs.
KINDS: Final[dict[int, frozenset[Kind]]] = {
    1: frozenset(),
    2: frozenset({Kind.PAUSE, Kind.SLOW_DOWN}),
    3: frozenset({Kind.PAUSE, Kind.SLOW_DOWN, Kind.KEYS}),
}


def perform(state: State, act: Act, time_ms: int, index: int) -> None:
    """Do an act at a log time, brought out by the entry with this index. Raises Refused if it cannot be done now."""
    match act:
        case KeyReplacements():
            key_life.replace_keys(state, act, time_ms, index)
        case _:
            raise AssertionError(f"no rules perform {act}")
