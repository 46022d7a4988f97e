"""What a simulation foresees, in words and as JSON-able values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pacekeeper.audit.story import describe_now, tell_moments
from pacekeeper.protocol.commitments.constraints import Constraints
from pacekeeper.protocol.commitments.pledges import Collapse
from pacekeeper.protocol.commitments.simulate import MAX_COLLAPSE_SETS, Foresight
from pacekeeper.protocol.commitments.transitions import Phase
from pacekeeper.protocol.commitments.wording import format_measure
from pacekeeper.protocol.documents.commitment_describe import describe_commitment
from pacekeeper.protocol.documents.commitment_model import CapLimits
from pacekeeper.protocol.documents.describe import exact_flop
from pacekeeper.protocol.text import count_of, printable
from pacekeeper.protocol.units import format_duration, format_time

_SHOWN = 40  # sets in words; --json has all that were found


def describe_foresight(foresight: Foresight, until_ms: int) -> Iterator[str]:
    """Yield the lines of a simulation up to a time."""
    standing = foresight.standing
    yield f'{standing.terms.id}, "{printable(standing.terms.title)}", at {format_time(until_ms)}'
    for sentence in describe_now(standing, entries=False):
        yield f"  {sentence}"
    if standing.phase is Phase.FAILED and foresight.unbound:
        yield f"  never bound: {', '.join(foresight.unbound)}"
    for step, refusal in foresight.refused:
        who = printable(step.who, 64)
        yield f"  refused: {step.action} by {who}: {printable(refusal.message)} ({refusal.code})"
    yield "what it says"
    for sentence in describe_commitment(standing.terms):
        yield f"  {sentence}"
    yield "time line"
    for moment, sentence in tell_moments(standing):
        yield f"  {format_time(moment.time_ms)}: {sentence}"
    yield "whose exit would collapse it"
    for sentence in describe_collapse(foresight.collapse):
        yield f"  {sentence}"
    yield "what each lab's gate would be told"
    for lab, seen in foresight.gates.items():
        yield f"  {lab}"
        for constraints in seen:
            yield f"    from {format_time(constraints.now_ms)}"
            for sentence in describe_constraints(constraints):
                yield f"      {sentence}"


def describe_collapse(collapse: Collapse) -> Iterator[str]:
    """Yield each minimal set whose exit makes the entry rule fail, and whether there are others.

    SPEC cli-19: every minimal set that was found MUST be told, and of a search that was cut up to which size none is
    missing.
    """
    if collapse.sets == (frozenset(),):
        yield "nobody's: the conditions are not met by those who pledged"
        return
    for exits in collapse.sets[:_SHOWN]:
        yield " and ".join(sorted(exits))
    if len(collapse.sets) > _SHOWN:
        yield f"and {count_of(len(collapse.sets) - _SHOWN, 'set')} more, which --json lists"
    sets = count_of(len(collapse.sets), "set")
    if collapse.complete:
        yield f"({sets}; there are no others)" if collapse.sets else "nobody's"
        return
    # SPEC pledges-8: what is missing is named by size.
    if not collapse.listed:
        vouched = "there may be others" if collapse.sets else "it is not known"
    elif any(len(exits) <= collapse.listed for exits in collapse.sets):
        vouched = f"every set of up to {count_of(collapse.listed, 'member')} is listed, larger ones may be missing"
    else:
        vouched = f"no exit of up to {count_of(collapse.listed, 'participant')} would, of more it is not known"
    yield f"(the search was cut at {sets}: {vouched})"


def describe_constraints(constraints: Constraints) -> Iterator[str]:
    """Yield what a gate would be told at a moment."""
    for hold in constraints.holds:
        yield f"runs above {exact_flop(hold.above_gflop)} hold, saved by {format_time(hold.enforced_ms)}"
    if constraints.rate is not None:
        yield f"all training together at most {exact_flop(constraints.rate.gflop_per_s)}/s"
    for limit in constraints.growth:
        yield from format_measure(limit.measure)
    for cap in constraints.caps:
        yield from format_measure(CapLimits((cap.cap,)))
    for budget in constraints.exempt:
        window = f" in {count_of(budget.window, 'period')}" if budget.window else ""
        yield f"{budget.category} goes on, up to {exact_flop(budget.budget_gflop)}{window}"
    if constraints.lease is not None:
        then = "hold" if constraints.lease.hold else "go on as before"
        yield f"without the log for {format_duration(constraints.lease.lease_ms)}: {then}"
    if not _binds(constraints):
        yield "nothing is constrained"


def _binds(constraints: Constraints) -> bool:
    return bool(constraints.holds or constraints.rate or constraints.growth or constraints.caps or constraints.lease)


def export_foresight(foresight: Foresight, until_ms: int) -> dict[str, Any]:
    """Return the same as JSON-able values, all sets that were found among them."""
    return {
        "commitment": foresight.standing.terms.id,
        "says": describe_commitment(foresight.standing.terms),
        "until_ms": until_ms,
        "phase": str(foresight.phase),
        "bound": dict(foresight.bound),
        "unbound": list(foresight.unbound),
        "refused": [
            {"action": step.action, "who": step.who, "code": str(refusal.code), "message": refusal.message}
            for step, refusal in foresight.refused
        ],
        "timeline": [
            {"time_ms": moment.time_ms, "what": moment.what, "who": moment.who, "phase": moment.phase}
            for moment in foresight.timeline
        ],
        "collapse": {
            "sets": [sorted(exits) for exits in foresight.collapse.sets],
            "complete": foresight.collapse.complete,
            "listed": foresight.collapse.listed,
            "limit": MAX_COLLAPSE_SETS,
        },
        "gates": {
            lab: [
                {"from_ms": constraints.now_ms, "told": list(describe_constraints(constraints))} for constraints in seen
            ]
            for lab, seen in foresight.gates.items()
        },
    }
