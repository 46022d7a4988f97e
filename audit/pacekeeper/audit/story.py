"""The story of a commitment in words and as JSON-able facts, from proposal to end, as the log tells it.

Everything follows from the replayed state: what is planned is said as planned, by log time. Violations under the
commitment stand where they became known, between what happened before and after them.

Example: "entry 12, 2026-01-05T00:00:00Z: in force; constraints hold from ... and bite from ..."
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

from pacekeeper.protocol.commitments.ramp import wind_down_ms
from pacekeeper.protocol.commitments.standing import Moment, Standing
from pacekeeper.protocol.commitments.transitions import Phase
from pacekeeper.protocol.commitments.triggers import TriggerState
from pacekeeper.protocol.commitments.wording import format_condition, format_pledge
from pacekeeper.protocol.replay.facts import Violation, ViolationKind
from pacekeeper.protocol.replay.state import State
from pacekeeper.protocol.text import count_of, printable
from pacekeeper.protocol.units import format_time

CONDUCT: Final = frozenset(
    {
        ViolationKind.PAUSE,
        ViolationKind.RATE,
        ViolationKind.UNSPLIT,
        ViolationKind.GROWTH,
        ViolationKind.GROWTH_UNRESOLVED,
    }
)

_PLAIN: Final = {
    "proposed": "proposed by {who}",
    "bound": "bound: {who}",
    "unbound": "no longer bound: {who}",
    "pledge-expired": "pledges that did not bind have expired: {who}",
    "vote-lift": "{who} speaks for lifting it",
    "vote-extend": "{who} speaks for extending it",
    "ramp": "lifted; the next stage of its ramp begins",
    "breach": "a breach by {who} is established",
    "overdue": "the report {who} is overdue, and its indicator's family counts as met",
    "deadline": "failed: the conditions were not met by the pledge deadline",
    "lapse-date": "failed: it was not in force in time",
    "trigger-off": "the triggers are no longer met, and nothing is constrained until they are again",
    "lifted": "ended: lifted",
    "expired": "ended: its term is over",
    "released": "ended: the breach releases all others",
    "performed": "ended: what was decided is done",
    "not-performed": "but it could not be done any more, and nothing has changed by it",
}
_GROUPED: Final = frozenset({"bound", "unbound", "pledge-expired"})


def conduct_under(state: State, commitment: str) -> list[Violation]:
    """Return the violations of a commitment, in the order in which they became known."""
    return [violation for violation in state.violations if commitment_of(violation) == commitment]


def commitment_of(violation: Violation) -> str:
    """Return the commitment that a violation is of; "" for one of the agreement itself."""
    own, slash, _ = violation.cap.partition("/")  # a cap by commitment is "commitment/cap"
    return own if slash or violation.kind in CONDUCT else ""


def headline(standing: Standing) -> str:
    """Name a commitment: its id, title, kind and document."""
    terms = standing.terms
    return f'{terms.id}, "{printable(terms.title)}", {terms.kind}, document {terms.digest.hex()}'


def tell_moments(standing: Standing) -> Iterator[tuple[Moment, str]]:
    """Yield what happened, in sentences, each with its moment (the first, where several are told together)."""
    for _, moments in groupby(standing.timeline, key=_group_of):
        together = list(moments)
        yield together[0], _happened(standing, together[0], ", ".join(moment.who for moment in together))


def tell_entry(standing: Standing, index: int) -> Iterator[str]:
    """Yield what one entry brought about."""
    return (sentence for moment, sentence in tell_moments(standing) if moment.index == index)


def tell_story(
    standing: Standing, violations: list[str], at: list[int], foreseen_from: int | None = None
) -> Iterator[str]:
    """Yield what happened, one sentence each; violations, in words, became known at the entries `at`.

    foreseen_from: the index from which on there is no entry yet, where what would happen is told as well.
    """
    waiting = list(zip(at, violations, strict=True))
    for moment, sentence in tell_moments(standing):
        while waiting and waiting[0][0] < moment.index:
            yield waiting.pop(0)[1]
        foreseen = foreseen_from is not None and moment.index >= foreseen_from
        yield f"{'foreseen' if foreseen else f'entry {moment.index}'}, {format_time(moment.time_ms)}: {sentence}"
    for _, sentence in waiting:
        yield sentence


def _group_of(moment: Moment) -> tuple[str, int, int, str]:
    apart = "" if moment.what in _GROUPED else moment.who
    return moment.what, moment.time_ms, moment.index, apart


def _happened(standing: Standing, moment: Moment, who: str) -> str:
    match moment.what:
        case "pledged":
            known = standing.pledged_at.get(who) == moment.index
            return f"pledged by {who}" + (f", {format_pledge(standing.pledges[who])}" if known else "")
        case "rule-met":
            assert standing.in_force_ms is not None
            return f"the conditions are met; the delay runs until {format_time(standing.in_force_ms)}"
        case "delay-over" if standing.trigger is not None:
            return "entered into force; armed, and waiting for its triggers"
        case "delay-over":
            return "the delay is over"
        case "trigger-on" if standing.terms.measure is not None:
            begin_ms = begins_ms(standing, moment)
            bite_ms = begin_ms + wind_down_ms(standing.terms.measure)
            met = "the triggers are met; " if standing.trigger is not None else ""
            return f"{met}in force; constraints hold from {format_time(begin_ms)} and bite from {format_time(bite_ms)}"
        case "trigger-on":
            return "in force"
        case "notice":
            leaves_ms = standing.leaving.get(who)
            until = "" if leaves_ms is None else f", and leaves at {format_time(leaves_ms)}"
            return f"{who} gives notice of withdrawal{until}{_reasons(moment)}"
        case "withdrawn":
            return f"the pledge of {who} is withdrawn{_reasons(moment)}"
        case "extended":
            return "extended"
        case "collapse":
            word = "failed" if moment.phase == Phase.FAILED else "ended"
            return f"{word}: those still bound no longer meet its conditions"
        case _:
            return _PLAIN[moment.what].format(who=who)


def _reasons(moment: Moment) -> str:
    return f'; its reasons: "{printable(moment.reason)}"' if moment.reason else ""


def begins_ms(standing: Standing, moment: Moment) -> int:
    """Return when constraints began that a trigger-on moment brought about."""
    if standing.trigger is not None:
        return moment.time_ms + standing.terms.entry.notice_ms
    assert standing.constraints_ms is not None
    return standing.constraints_ms


def describe_now(standing: Standing, *, entries: bool = True, when: str = "now") -> Iterator[str]:
    """Yield how a commitment stands, in sentences: its phase, who is bound, what is planned.

    entries: whether there is a log with the pledges in it. when: what the time is called.
    """
    terms = standing.terms
    rule = format_condition(terms.entry.rule)
    match standing.phase:
        case Phase.OPEN:
            yield f"{when} open for pledges until {format_time(terms.entry.pledges_by_ms)}; it needs {rule}"
        case Phase.PENDING:
            assert standing.in_force_ms is not None
            yield f"{when} pending: the delay runs until {format_time(standing.in_force_ms)}"
        case Phase.ARMED:
            yield f"{when} armed: in force whenever its triggers are met"
        case Phase.IN_FORCE:
            assert standing.in_force_ms is not None
            yield f"{when} IN FORCE; entered into force at {format_time(standing.in_force_ms)}"
        case Phase.FAILED:
            yield f"{when} failed: it was never in force, and cannot be any more"
        case _:
            yield f"{when} ended ({standing.how_ended})"
    if standing.over:
        return
    yield from _constraints(standing)
    if standing.trigger is not None:
        yield from _indicators(standing.trigger)
    for who in sorted(standing.pledges):
        where = f" (entry {standing.pledged_at[who]})" if entries else ""
        yield f"pledge of {who}{where}, {_pledge_now(standing, who)}"
    if standing.expires_ms is not None:
        yield f"ends at {format_time(standing.expires_ms)}" + (
            f", extended {count_of(standing.extensions, 'time')}" if standing.extensions else ""
        )
    yield from _votes(standing)


def bites_from_ms(standing: Standing) -> int | None:
    """Return when the constraints of a commitment bite or will, as far as that is planned; None if it is not."""
    measure = standing.terms.measure
    begun_ms = standing.force.began_ms if standing.force is not None else None
    if begun_ms is None and standing.phase is Phase.PENDING and standing.trigger is None:
        begun_ms = standing.constraints_ms
    return None if measure is None or begun_ms is None else begun_ms + wind_down_ms(measure)


def _constraints(standing: Standing) -> Iterator[str]:
    bite_ms = bites_from_ms(standing)
    if bite_ms is not None:
        yield f"bites from {format_time(bite_ms)}"
    if standing.stage >= 0:
        yield f"being lifted: stage {standing.stage + 1} of {len(standing.terms.lifting.stages)} of its ramp"


def _indicators(trigger: TriggerState) -> Iterator[str]:
    """What each reporter's reports say, and how far they are from saying something else."""
    for (ident, reporter), track in trigger.tracks.items():
        indicator = trigger.indicator(ident)
        word = "met" if track.on else "overdue, and so met" if track.overdue else "not met"
        until = "no report counted yet" if track.until_ms < 0 else f"reported until {format_time(track.until_ms)}"
        streak = f", {track.streak} of {indicator.reports} in a row for a change" if track.streak else ""
        yield f"indicator {ident} by {reporter} ({indicator.family}): {word}; {until}{streak}"


def _pledge_now(standing: Standing, who: str) -> str:
    condition = format_pledge(standing.pledges[who])
    if who not in standing.bound:
        return f"{condition}: not bound"
    leaves_ms = standing.leaving.get(who)
    leaving = "" if leaves_ms is None else f", notice given, leaves at {format_time(leaves_ms)}"
    return f"{condition}: bound from {format_time(standing.bound[who])}{leaving}"


def _votes(standing: Standing) -> Iterator[str]:
    terms = standing.terms
    if terms.lifting.by is not None:
        votes = ", ".join(sorted(standing.lift_votes)) or "nobody yet"
        yield f"lifting takes {format_condition(terms.lifting.by)}; for it: {votes}"
    if terms.term.extended_by is not None and standing.extensions < terms.term.extensions:
        votes = ", ".join(sorted(standing.extend_votes)) or "nobody yet"
        yield f"extending takes {format_condition(terms.term.extended_by)}; for it: {votes}"


def export_commitment(state: State, standing: Standing) -> dict[str, Any]:
    """Return the same facts as JSON-able values."""
    terms = standing.terms
    return {
        "commitment": terms.id,
        "title": terms.title,
        "kind": str(terms.kind),
        "digest": terms.digest.hex(),
        "proposer": standing.proposer,
        "index": standing.index,
        "phase": str(standing.phase),
        "how_ended": standing.how_ended,
        "needs": format_condition(terms.entry.rule),
        "pledges_by_ms": terms.entry.pledges_by_ms,
        "met_ms": standing.met_ms,
        "in_force_ms": standing.in_force_ms,
        "bites_ms": bites_from_ms(standing),
        "expires_ms": standing.expires_ms,
        "stage": standing.stage,
        "extensions": standing.extensions,
        "lift_votes": sorted(standing.lift_votes),
        "extend_votes": sorted(standing.extend_votes),
        "pledges": [
            {
                "participant": who,
                "index": standing.pledged_at[who],
                "if": [format_condition(condition) for condition in standing.pledges[who]],
                "bound_ms": standing.bound.get(who),
                "leaves_ms": standing.leaving.get(who),
            }
            for who in sorted(standing.pledges)
        ],
        "indicators": [
            {
                "indicator": indicator,
                "reporter": reporter,
                "met": track.met,
                "overdue": track.overdue,
                "until_ms": track.until_ms if track.until_ms >= 0 else None,
            }
            for (indicator, reporter), track in (standing.trigger.tracks.items() if standing.trigger else ())
        ],
        "timeline": [
            {
                "time_ms": m.time_ms,
                "index": m.index,
                "what": m.what,
                "who": m.who,
                "phase": m.phase,
                "reason": m.reason,
            }
            for m in standing.timeline
        ],
        "violations": [
            {"index": v.index, "kind": str(v.kind), "subject": v.subject, "period": v.period}
            for v in conduct_under(state, terms.id)
        ],
    }
