"""A scripted log on which a pause is proposed, pledged to, breached and lifted.

Example: world = PledgedWorld(); world.agreed(at=world.start(1)) puts the pause "halt" in force 10 s later, biting 30 s
later; it holds borealis/run-1, which is above its limit.
"""

from __future__ import annotations

import hashlib
from typing import Any

from commitments import build_commitment
from world import World

from pacekeeper.protocol.replay import Applied, Void
from pacekeeper.protocol.units import format_time
from pacekeeper.v1 import statements_pb2 as pb

CALENDAR = {"period": "100 s", "due": "100 s", "tick": "50 s", "fill_in": "200 s", "indeterminate_periods": 1}


class PledgedWorld(World):
    """Times are log times in milliseconds; every statement is signed by whom it speaks for."""

    def __init__(self, **terms: Any) -> None:
        super().__init__(labs=[1, 0, 0, 0], **CALENDAR)
        self.declare("borealis", "run-1", at=self.start(0))
        self.to(self.end(0))
        self.attest("borealis", 0, {"run-1": 600})
        entry = {"parties": 2, "pledges_by": format_time(self.start(3)), "delay": "10 s", "notice": "10 s"}
        measure = terms.pop("measure", {"pause": {"above": "5e11 FLOP", "wind_down": "20 s"}})
        kind = next(iter(measure)).replace("_", "-")
        rest = {"term": {"length": "10 h"}, "lifting": {"parties": 2}, **terms}
        self.halt = build_commitment(kind, "halt", entry=entry, **measure, **rest)

    def say(self, who: str, statement: Any, at: int) -> Applied | Void:
        """Sign a statement as a lab or a party, and sequence it; what falls due before is ticked first."""
        self.to(at)
        key = self.keys.lab(who) if who in self.state.labs else self.keys.party(who)
        return self.put(self.seal(statement, key), at)

    def propose(self, who: str, at: int) -> Applied | Void:
        statement = pb.Commitment(agreement=self.agreement.fingerprint, proposer=who, document=self.halt)
        return self.say(who, statement, at)

    def pledge(self, who: str, at: int, **condition: Any) -> Applied | Void:
        statement = pb.Pledge(
            agreement=self.agreement.fingerprint,
            participant=who,
            commitment="halt",
            digest=hashlib.sha256(self.halt).digest(),
            alternatives=[pb.Condition(**condition)] if condition else [],
        )
        return self.say(who, statement, at)

    def withdraw(self, who: str, at: int, reason: str = "") -> Applied | Void:
        index = self.state.commitments.standing("halt").pledged_at[who]
        statement = pb.Withdrawal(
            agreement=self.agreement.fingerprint, participant=who, commitment="halt", pledge_index=index, reason=reason
        )
        return self.say(who, statement, at)

    def lift(self, who: str, at: int) -> Applied | Void:
        index = self.state.commitments.standing("halt").pledged_at[who]
        statement = pb.Lift(
            agreement=self.agreement.fingerprint,
            participant=who,
            commitment="halt",
            action=pb.LIFT_ACTION_LIFT,
            pledge_index=index,
        )
        return self.say(who, statement, at)

    def agreed(self, at: int) -> None:
        """Norland proposes and pledges if Sudland does; Sudland pledges."""
        for outcome in (
            self.propose("norland", at),
            self.pledge("norland", at, named=["sudland"]),
            self.pledge("sudland", at),
        ):
            assert isinstance(outcome, Applied), outcome
