"""A log on which parties commit to a pause or slow-down, for tests of the replay.

Example: world = Covenant(); world.covenant(world.start(1)); world.kinds() == []
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from commitments import build_commitment
from world import World

from pacekeeper.protocol.commitments.transitions import Phase
from pacekeeper.protocol.replay import Applied, ViolationKind, Void
from pacekeeper.protocol.units import format_time
from pacekeeper.v1 import statements_pb2 as pb

PERIOD_MS = 100_000
CALENDAR = {"period": "100 s", "due": "100 s", "tick": "50 s", "fill_in": "500 s", "indeterminate_periods": 1}


class Covenant(World):
    """A world in which parties propose and pledge; one lab, borealis, of norland, with a run of 600 gigaFLOP."""

    def __init__(self, world: Mapping[str, Any] | None = None, **terms: Any) -> None:
        super().__init__(**{"labs": [1, 0, 0, 0], **CALENDAR, **(world or {})})
        self.declare("borealis", "run-1", at=self.start(0))
        self.to(self.end(0))  # without a silence, which would move what falls due after it
        self.attest("borealis", 0, {"run-1": 600})
        self.text = self.pause(**terms)
        self.digest = hashlib.sha256(self.text).digest()

    def pause(self, **terms: Any) -> bytes:
        entry = {
            "parties": 2,
            "pledges_by": format_time(self.start(3)),
            "delay": "10 s",
            "notice": "10 s",
            **terms.pop("entry", {}),
        }
        measure = terms.pop("measure", {"pause": {"above": "5e11 FLOP", "wind_down": "20 s"}})
        kind = next(iter(measure)).replace("_", "-")
        rest = {"term": {"length": "10 h"}, "lifting": {"parties": 2}, **terms}
        return build_commitment(kind, "halt", entry=entry, **measure, **rest)

    def say(self, statement: Any, who: str, at: int) -> Applied | Void:
        key = self.keys.lab(who) if who in self.state.labs else self.keys.party(who)
        return self.put(self.seal(statement, key), at)

    def propose(self, at: int, who: str = "norland", document: bytes | None = None) -> Applied | Void:
        text = document if document is not None else self.text
        return self.say(pb.Commitment(agreement=self.agreement.fingerprint, proposer=who, document=text), who, at)

    def pledge(self, who: str, at: int, **more: Any) -> Applied | Void:
        fields: dict[str, Any] = {"commitment": "halt", "digest": self.digest, **more}
        return self.say(pb.Pledge(agreement=self.agreement.fingerprint, participant=who, **fields), who, at)

    def pledged_at(self, who: str) -> int:
        return self.state.commitments.standing("halt").pledged_at[who]

    def leave(self, who: str, at: int, **more: Any) -> Applied | Void:
        fields: dict[str, Any] = {"commitment": "halt", "pledge_index": self.pledged_at(who), **more}
        return self.say(pb.Withdrawal(agreement=self.agreement.fingerprint, participant=who, **fields), who, at)

    def lift(self, who: str, at: int) -> Applied | Void:
        index = self.pledged_at(who)
        statement = pb.Lift(
            agreement=self.agreement.fingerprint,
            participant=who,
            commitment="halt",
            action=pb.LIFT_ACTION_LIFT,
            pledge_index=index,
        )
        return self.say(statement, who, at)

    def covenant(self, at: int) -> None:
        """Two parties pledge at that moment: the pause is in force 10 s later and bites 30 s later."""
        assert isinstance(self.propose(at), Applied)
        for who in ("norland", "sudland"):
            assert isinstance(self.pledge(who, at), Applied)

    def split(self, period: int, *parts: int, splits: tuple[int, ...], at: int, amount: int = 100) -> Applied | Void:
        """An account of run-1 whose figures are about these parts, with the amount in each."""
        account = self.account(period, {"run-1": 0})
        figure = account.figures.pop()
        account.time[0].chip_ms = 10 * len(parts)
        account.time[1].chip_ms = 8 * PERIOD_MS - 10 * len(parts)
        for part in parts:
            figure.part, figure.estimates[0].amount = part, amount
            account.figures.append(figure)
        account.splits_ms.extend(splits)
        link = self.link("borealis")
        statement = pb.ComputeAttestation(
            agreement=self.agreement.fingerprint, lab="borealis", link=link, account=account
        )
        return self.put_chain("borealis", statement, at)

    def phase(self) -> Phase:
        return self.state.commitments.standing("halt").phase

    def kinds(self) -> list[tuple[ViolationKind, int]]:
        return [(violation.kind, violation.period) for violation in self.state.violations]

    def proved(self) -> None:
        """A replay of the entries alone reaches the same state."""
        assert self.replayed().digest() == self.state.digest()
