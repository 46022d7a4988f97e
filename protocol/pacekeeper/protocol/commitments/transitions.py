"""The table of a commitment's life: phase and event give the next phase. What is not in the table is refused.

    OPEN      pledges are gathered
    PENDING   the entry rule is met and the delay runs
    ARMED     entered into force, and waiting for its triggers; without triggers it is passed at once
    IN_FORCE  its constraints hold, or its act is done
    ENDED     was in force or armed, and is over: lifted, expired, lapsed or performed
    FAILED    was never in force, and cannot be any more

SPEC commitments-16: a transition that the table does not have MUST be refused, and leave the state untouched.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from pacekeeper.protocol.errors import Code, Refused


class Phase(StrEnum):
    """Where a commitment is in its life."""

    OPEN = "open"
    PENDING = "pending"
    ARMED = "armed"
    IN_FORCE = "in-force"
    ENDED = "ended"
    FAILED = "failed"


class Event(StrEnum):
    """What moves a commitment from one phase to another."""

    RULE_MET = "rule-met"  # the set bound meets the entry rule
    DEADLINE = "deadline"  # the pledge deadline passes with the rule not met
    LAPSE_DATE = "lapse-date"  # not in force by its lapse date
    COLLAPSE = "collapse"  # those still bound no longer meet what it requires
    DELAY_OVER = "delay-over"
    TRIGGER_ON = "trigger-on"  # also at once when there are no triggers
    TRIGGER_OFF = "trigger-off"
    LIFTED = "lifted"  # by those who can, its ramp over
    EXPIRED = "expired"
    RELEASED = "released"  # a breach released the others
    PERFORMED = "performed"  # an act is done


TABLE: Final[Mapping[tuple[Phase, Event], Phase]] = MappingProxyType(
    {
        (Phase.OPEN, Event.RULE_MET): Phase.PENDING,
        (Phase.OPEN, Event.DEADLINE): Phase.FAILED,
        (Phase.OPEN, Event.LAPSE_DATE): Phase.FAILED,
        (Phase.PENDING, Event.DELAY_OVER): Phase.ARMED,
        (Phase.PENDING, Event.COLLAPSE): Phase.FAILED,
        (Phase.PENDING, Event.LAPSE_DATE): Phase.FAILED,
        (Phase.ARMED, Event.TRIGGER_ON): Phase.IN_FORCE,
        (Phase.ARMED, Event.LIFTED): Phase.ENDED,
        (Phase.ARMED, Event.EXPIRED): Phase.ENDED,
        (Phase.ARMED, Event.COLLAPSE): Phase.ENDED,
        (Phase.ARMED, Event.RELEASED): Phase.ENDED,
        (Phase.IN_FORCE, Event.TRIGGER_OFF): Phase.ARMED,
        (Phase.IN_FORCE, Event.LIFTED): Phase.ENDED,
        (Phase.IN_FORCE, Event.EXPIRED): Phase.ENDED,
        (Phase.IN_FORCE, Event.COLLAPSE): Phase.ENDED,
        (Phase.IN_FORCE, Event.RELEASED): Phase.ENDED,
        (Phase.IN_FORCE, Event.PERFORMED): Phase.ENDED,
    }
)

HOW_ENDED: Final[Mapping[Event, str]] = MappingProxyType(
    {
        Event.LIFTED: "lifted",
        Event.EXPIRED: "expired",
        Event.COLLAPSE: "lapsed",
        Event.RELEASED: "lapsed",
        Event.PERFORMED: "performed",
    }
)


def step(phase: Phase, event: Event) -> Phase:
    """Return the phase that an event leads to. Raises Refused(absent-transition)."""
    following = TABLE.get((phase, event))
    if following is None:
        raise Refused(Code.ABSENT_TRANSITION, f"nothing leads from {phase} by {event}")
    return following


def diagram() -> str:
    """Return the table as text, one line for each transition: what specs/commitments.md shows."""
    width = max(len(event) for _, event in TABLE)
    return "\n".join(
        f"{phase:<9} --{event:-<{width}}--> {following}"
        + (f" ({HOW_ENDED[event]})" if following is Phase.ENDED else "")
        for (phase, event), following in TABLE.items()
    )
