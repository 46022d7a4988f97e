"""What the lab's daemon goes by: the agreement in force as far as the log has been read, and the lab's place in it.

Before the log is read it is the agreement of the bundle, by which nothing is signed yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NamedTuple, Protocol

from pacekeeper.node.config import LabSettings
from pacekeeper.protocol.documents.agreement import Agreement
from pacekeeper.protocol.replay import State
from pacekeeper.v1 import statements_pb2 as pb


class Followed(Protocol):
    """What is needed of a Reader."""

    @property
    def state(self) -> State | None: ...


class Membership(NamedTuple):
    """The periods that a lab accounts for: from first on if it has acceded, to last once its party has left."""

    first: int | None = None
    last: int | None = None

    def owes(self, period: int) -> bool:
        """Whether the lab accounts for a period that it has not accounted for."""
        return self.last is None or period <= self.last


FOUNDER: Final = Membership()


def _width(margins: Mapping[int, int]) -> tuple[int, int]:
    """Of several sets of margins that one is best by which most jobs count with their own figures."""
    return margins.get(pb.METHOD_FRAMEWORK_COUNT, -1), margins.get(pb.METHOD_CHIP_TIME, -1)


class Terms:
    """The terms in force, each time that they are asked for."""

    def __init__(self, settings: LabSettings, followed: Followed) -> None:
        self._founding = settings.agreement
        self._lab = settings.lab.id
        self._followed = followed

    @property
    def agreement(self) -> Agreement:
        """The agreement in force."""
        state = self._followed.state
        return self._founding if state is None else state.agreement

    def of_period(self, period: int) -> Agreement:
        """The agreement with the margins that an account of a period may keep to, if it is made now.

        SPEC node-45: an account MUST keep to the margins in force, or to those before an amendment of its own time.
        """
        state = self._followed.state
        if state is None:
            return self._founding
        return replace(state.agreement, margins=max(state.margins_for(period), key=_width))

    def membership(self) -> Membership | None:
        """The lab's place in the agreement; None if it has none yet."""
        state = self._followed.state
        lab = None if state is None else state.labs.get(self._lab)
        if state is None or lab is None:
            return None
        return Membership(state.joined.get(self._lab), lab.last_period)

    def problem(self) -> str:
        """What of it a person should know; empty if nothing."""
        place = self.membership()
        if place is None and self._followed.state is not None:
            return f'the agreement has no lab "{self._lab}" yet'
        if place is not None and place.last is not None:
            return f"the lab has left the agreement: it gives accounts up to period {place.last}, and none later"
        return ""
