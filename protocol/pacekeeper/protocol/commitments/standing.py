"""One commitment as it stands: its terms, who pledged, who is bound from when, its phase, and what happened so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from pacekeeper.protocol import limits
from pacekeeper.protocol.commitments.constraints import Span
from pacekeeper.protocol.commitments.pledges import Alternatives, Roll
from pacekeeper.protocol.commitments.ramp import loosened, wind_down_ms
from pacekeeper.protocol.commitments.transitions import HOW_ENDED, Event, Phase, step
from pacekeeper.protocol.commitments.triggers import TriggerState
from pacekeeper.protocol.documents.commitment_model import Commitment


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of a commitment's time line: what happened when, brought out by which entry, to whom, leaving which
    phase. what is an Event, or "proposed", "pledged", "bound", "unbound", "notice", "withdrawn", "vote-lift", "ramp",
    "vote-extend", "extended", "breach", "overdue", "pledge-expired", "not-performed". reason: whoever leaves states it.
    """

    time_ms: int
    index: int
    commitment: str
    what: str
    who: str
    phase: str
    reason: str = ""


@dataclass(slots=True)
class Force:
    """A time in force that goes on: began_ms is when its constraints began, from_ms when the present limit did."""

    began_ms: int
    from_ms: int
    limit: int | None = None


@dataclass(slots=True)
class Standing:
    """The state of one commitment. pledged_at: participant -> leaf index of the pledge that stands. rounds: participant
    -> how many pledges it made. bound: participant -> from when. leaving: participant -> when its withdrawal takes
    effect. in_force_ms is planned while pending, a fact after. stage counts the ramp's, from 0; -1 is before it."""

    terms: Commitment
    roll: Roll
    proposer: str
    index: int
    proposed_ms: int
    phase: Phase = Phase.OPEN
    how_ended: str = ""
    pledges: dict[str, Alternatives] = field(default_factory=dict)
    pledged_at: dict[str, int] = field(default_factory=dict)
    rounds: dict[str, int] = field(default_factory=dict)
    bound: dict[str, int] = field(default_factory=dict)
    leaving: dict[str, int] = field(default_factory=dict)
    met_ms: int | None = None
    in_force_ms: int | None = None
    constraints_ms: int | None = None
    force: Force | None = None
    stage: int = -1
    expires_ms: int | None = None
    extensions: int = 0
    lift_votes: set[str] = field(default_factory=set)
    extend_votes: set[str] = field(default_factory=set)
    trigger: TriggerState | None = None
    due: dict[str, str] = field(default_factory=dict)
    timeline: list[Moment] = field(default_factory=list)

    @property
    def live(self) -> bool:
        """Whether the rule is met and it is not over."""
        return self.phase in (Phase.PENDING, Phase.ARMED, Phase.IN_FORCE)

    @property
    def over(self) -> bool:
        return self.phase in (Phase.ENDED, Phase.FAILED)

    def move(self, event: Event, time_ms: int, index: int, who: str = "") -> None:
        """Take a transition of the table, or raise Refused with nothing changed."""
        self.phase = step(self.phase, event)
        if self.phase is Phase.ENDED:
            self.how_ended = HOW_ENDED[event]
        self.note(event, time_ms, index, who)

    def note(self, what: str, time_ms: int, index: int, who: str = "", reason: str = "") -> None:
        """Write a line of the time line, until it is full.

        SPEC commitments-77: the reasons that a withdrawal states MUST be kept with it, as long as the time line is.
        """
        if len(self.timeline) < limits.MAX_TIMELINE:
            self.timeline.append(Moment(time_ms, index, self.terms.id, str(what), who, str(self.phase), reason))

    def span(self, participant: str, until_ms: int | None = None) -> Span | None:
        """Return the span of its measure for a bound participant, in force or planned; None without any.

        SPEC commitments-29: a commitment MUST constrain nobody outside its time in force and the participant's own
        time bound; what is planned for certain shows before it is a fact, so that a gate can tighten in time.
        """
        measure, force = self.terms.measure, self.force
        if measure is None or participant not in self.bound:
            return None
        if force is None:
            if self.phase is not Phase.PENDING or self.trigger is not None or self.constraints_ms is None:
                return None
            force = Force(self.constraints_ms, self.constraints_ms)
        from_bound_ms = self.bound[participant]
        from_ms = max(from_bound_ms, force.from_ms)
        enforced_ms = max(from_ms, max(from_bound_ms, force.began_ms) + wind_down_ms(measure))
        return Span(
            commitment=self.terms.id,
            measure=measure if force.limit is None else loosened(measure, force.limit),
            exemptions=self.terms.exemptions,
            from_ms=from_ms,
            enforced_ms=enforced_ms if until_ms is None else min(enforced_ms, until_ms),
            until_ms=until_ms,
        )

    def describe(self, *, reasons: bool = False) -> dict[str, object]:
        """Return all of it as JSON-able values, for the digest of a state; reasons: those of who left too, since
        version 3 of the rules."""
        stated = [[moment.index, moment.who, moment.reason] for moment in self.timeline if moment.reason]
        return {
            **({"reasons": stated} if reasons and stated else {}),
            "digest": self.terms.digest.hex(),
            "proposed": [self.proposer, self.index, self.proposed_ms],
            "phase": self.phase,
            "how_ended": self.how_ended,
            "roll": [dict(sorted(self.roll.parties.items())), dict(sorted(self.roll.labs.items()))],
            "pledges": {
                who: [[c.parties, c.labs, sorted(c.named), c.weight_ppm] for c in pledge]
                for who, pledge in sorted(self.pledges.items())
            },
            "pledged_at": dict(sorted(self.pledged_at.items())),
            "rounds": dict(sorted(self.rounds.items())),
            "bound": dict(sorted(self.bound.items())),
            "leaving": dict(sorted(self.leaving.items())),
            "times": [self.met_ms, self.in_force_ms, self.constraints_ms, self.expires_ms],
            "force": None if self.force is None else [self.force.began_ms, self.force.from_ms, self.force.limit],
            "ramp": self.stage,
            "extensions": self.extensions,
            "votes": [sorted(self.lift_votes), sorted(self.extend_votes)],
            "tracks": []
            if self.trigger is None
            else [
                [*key, track.on, track.streak, track.until_ms, track.overdue]
                for key, track in sorted(self.trigger.tracks.items())
            ],
            "due": dict(sorted(self.due.items())),
        }
