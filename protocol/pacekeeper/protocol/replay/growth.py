"""Growth limits in the replay: each lab's windows, judged whenever one of its figures changes and at their close.

A window that is certainly too much is a violation as soon as an account shows it. Its last word is spoken when its last
period closes: then no figure in it or before it can change any more, so that the order in which late accounts and
corrections came makes no difference, and the window is folded into what the next ones need of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from pacekeeper.protocol.commitments.coverage import throughout, windowed_spans
from pacekeeper.protocol.commitments.growth_bounds import BoundedWindow, bounded_windows, excess
from pacekeeper.protocol.commitments.ramp import loosened
from pacekeeper.protocol.compute.bounds import NOTHING, Bounds
from pacekeeper.protocol.documents.commitment_model import Exemption, Growth
from pacekeeper.protocol.replay import commitments
from pacekeeper.protocol.replay.facts import Violation, ViolationKind
from pacekeeper.protocol.replay.judgements import Course
from pacekeeper.protocol.replay.labs import LabState
from pacekeeper.protocol.replay.state import State

CLOSE: Final = "growth "
_UNKNOWN: Final = Bounds(0, 2**200)  # of a period that can still be accounted for
_TRAINING: Final = "training"


def first_period(state: State, lab: str, commitment: str, until_ms: int) -> int | None:
    """Return the first period that began with a growth limit in force for a lab, as of a moment; None if none did.

    SPEC commitments-63: a lab's windows MUST follow each other from there on, also through times in which the limit is
    not in force.
    """
    calendar, found = state.agreement.calendar, []
    for span in windowed_spans(state.commitments, lab, 0, until_ms):
        if span.commitment == commitment:
            period = max(0, -((calendar.epoch_ms - span.from_ms) // calendar.period_ms))
            if span.until_ms is None or state.agreement.period_start_ms(period) < span.until_ms:
                found.append(period)
    return min(found, default=None)


def count_growth(state: State, lab: LabState, commitment: str, period: int, change: tuple[int, int]) -> None:
    """Add to what counts in a lab's windows under a growth limit."""
    course = state.courses.setdefault(lab.id, {}).get(commitment)
    if course is None:
        first = first_period(state, lab.id, commitment, state.agreement.period_end_ms(period))
        assert first is not None
        course = Course(first, _measure(state, commitment).window)
        state.courses[lab.id][commitment] = course
    course.used[period] = course.used.get(period, NOTHING).plus(Bounds(*change))
    window = course.window_of(period)
    if window not in course.waiting:
        course.waiting.add(window)
        last = window + course.window - 1
        state.push_deadline(CLOSE + commitment, lab.id, last, state.agreement.fill_in_ms(last) + 1)


def judge_growth(state: State, lab: LabState, period: int, found: list[Violation]) -> None:
    """Judge the open windows of a lab under each growth limit, after what it used in a period has changed: it may be in
    one, or in what one is held to."""
    for commitment, course in list(state.courses.get(lab.id, {}).items()):
        if course.is_clear(period):
            continue  # nearly every judgement ends here; it is what the lines below would do
        _settle(state, lab, commitment, course, state.size, state.last_time_ms, found)
        if not course.used:
            if state.commitments.standing(commitment).over:
                del state.courses[lab.id][commitment]
            continue
        budgets, spent = _budgets(state, commitment), dict(course.spent)
        for window in open_windows(state, lab, commitment, course, max(course.used)):
            beyond = _lower(excess(window, course.used))
            spent.update(beyond)
            if _is_over(budgets, spent, course.spent_before, beyond):
                _convict(state, lab, commitment, course, window, min(beyond), found)
            course.clear_window, course.clear_to = window.first, window.allowance.low


def close_window(
    state: State, commitment: str, subject: str, period: int, due_ms: int, index: int, found: list[Violation]
) -> None:
    """The last period of a window closes."""
    course = state.courses.get(subject, {}).get(commitment)
    if course is None:
        return
    _settle(state, state.labs[subject], commitment, course, index, due_ms, found)
    if course.first <= period:  # a silence has put off this and the moment up to which accounts are taken to the same
        state.push_deadline(CLOSE + commitment, subject, period, state.last_time_ms + 1)


class Ahead(NamedTuple):
    """What a lab knows besides the log: what it used in periods without account, and what of that and of attested
    periods counts in windows."""

    totals: Mapping[int, Bounds]
    used: Mapping[int, Bounds]


_NOTHING_AHEAD: Final = Ahead({}, {})


def window_ahead(state: State, lab: str, commitment: str, period: int, ahead: Ahead) -> BoundedWindow | None:
    """Return the window that a period is in, by what the log and the lab know together; None before the first, and
    where the limit is not in force. It creates no fact."""
    now_ms = state.agreement.period_start_ms(period) + 1
    course = state.courses.get(lab, {}).get(commitment)
    if course is None:
        first = first_period(state, lab, commitment, now_ms)
        if first is None:
            return None
        course = Course(first, _measure(state, commitment).window)
    if period < course.first or commitment not in throughout(state.commitments, lab, now_ms - 1, now_ms):
        return None
    *_, window = open_windows(state, state.labs[lab], commitment, course, period, ahead)
    return window


def open_windows(
    state: State, lab: LabState, commitment: str, course: Course, last: int, ahead: Ahead = _NOTHING_AHEAD
) -> Iterator[BoundedWindow]:
    """Yield the windows of a lab that are not closed, up to the one that period last is in."""
    agreement, registry = state.agreement, state.commitments
    own = _measure(state, commitment)
    spans = [
        span
        for span in windowed_spans(
            registry, lab.id, agreement.period_start_ms(course.first), agreement.period_end_ms(last)
        )
        if span.commitment == commitment
    ]

    def measure_of(first: int, end: int) -> Growth:
        # SPEC commitments-64: a window MUST have the loosest limit that was in force in it, as a ramp goes on.
        start_ms, end_ms = agreement.period_start_ms(first), agreement.period_start_ms(end)
        measures = [
            span.measure
            for span in spans
            if span.from_ms < end_ms and (span.until_ms is None or span.until_ms > start_ms)
        ]
        growths = [measure.growth_ppm for measure in measures if isinstance(measure, Growth)]
        loosest = loosened(own, max(growths, default=own.growth_ppm))
        assert isinstance(loosest, Growth)
        return loosest

    total = _baseline_of(state, lab, course, ahead.totals)
    return bounded_windows(measure_of, total, {**course.used, **ahead.used}, course.first, course.carried, last)


def _baseline_of(
    state: State, lab: LabState, course: Course, unattested: Mapping[int, Bounds]
) -> Callable[[int], Bounds]:
    def total(period: int) -> Bounds:
        """SPEC commitments-65: a period without account MUST count as zero in a baseline once it is closed, and before
        that MUST NOT convict anybody by it."""
        known = course.discounted.get(period) or unattested.get(period)
        if known is not None:
            return known
        attested = lab.total(period)
        if attested is not None:
            return attested
        return NOTHING if period < state.first_period or state.is_closed(period) else _UNKNOWN

    return total


def _settle(
    state: State, lab: LabState, commitment: str, course: Course, index: int, time_ms: int, found: list[Violation]
) -> None:
    """Speak the last word on each window that is closed, and fold it."""
    last = course.first - 1
    while state.is_closed(last + course.window):
        last += course.window
    if last < course.first:
        return
    budgets = _budgets(state, commitment)
    for window in list(open_windows(state, lab, commitment, course, last)):
        _judge_closed(state, lab, commitment, course, window, budgets, index, time_ms, found)
        _fold(course, window, budgets, _measure(state, commitment).baseline)


def _judge_closed(
    state: State,
    lab: LabState,
    commitment: str,
    course: Course,
    window: BoundedWindow,
    budgets: Sequence[Exemption],
    index: int,
    time_ms: int,
    found: list[Violation],
) -> None:
    beyond = excess(window, course.used)
    least, most = _lower(beyond), {period: bounds.high for period, bounds in beyond.items()}
    if _is_over(budgets, course.spent | least, course.spent_before, least):
        _convict(state, lab, commitment, course, window, min(least), found, index, time_ms)
        # SPEC conduct-7: the breach of a growth limit MUST be established when the window's last period closes.
        state.commitments.breach(lab.id, index, time_ms, commitment)
        commitments.follow_up(state)
    elif window.first not in course.convicted and _is_over(budgets, course.spent | most, course.spent_before, most):
        # SPEC conduct-8: a window that may be too much still when it closes MUST become a violation of its own kind.
        kind, limit = ViolationKind.GROWTH_UNRESOLVED, window.allowance.low
        found.append(Violation(kind, lab.id, min(most), index, time_ms, commitment, limit, window.used))
    course.spent |= least if budgets else {}


def _convict(
    state: State,
    lab: LabState,
    commitment: str,
    course: Course,
    window: BoundedWindow,
    period: int,
    found: list[Violation],
    index: int | None = None,
    time_ms: int | None = None,
) -> None:
    if window.first in course.convicted:
        return
    course.convicted.add(window.first)
    index, time_ms = state.size if index is None else index, state.last_time_ms if time_ms is None else time_ms
    limit, kind = window.allowance.high, ViolationKind.GROWTH
    found.append(Violation(kind, lab.id, period, index, time_ms, commitment, limit, window.used))


def _fold(course: Course, window: BoundedWindow, budgets: Sequence[Exemption], baseline: int) -> None:
    for period, counts in zip(range(window.first, window.end), window.counts, strict=True):
        used = course.used.pop(period, None)
        if used is not None and used != counts:
            course.discounted[period] = counts
    course.first, course.carried = window.end, window.carries
    course.waiting.discard(window.first)
    course.convicted.discard(window.first)
    for period in [period for period in course.discounted if period < window.end - baseline]:
        del course.discounted[period]
    longest = max((budget.window for budget in budgets), default=0)
    for period in [period for period in course.spent if period < window.end - longest]:
        course.spent_before += course.spent.pop(period)


def _is_over(budgets: Sequence[Exemption], spent: Mapping[int, int], before: int, periods: Iterable[int]) -> bool:
    """Whether what is beyond the limit in some of these periods is beyond a budget for training as well.

    SPEC conduct-9: a budget for training MUST excuse what goes beyond a window's allowance, which is owed all the same.
    """
    for period in periods:
        if not budgets:
            return True
        for budget in budgets:
            whole = not budget.window
            total = sum(
                amount for when, amount in spent.items() if when <= period and (whole or when > period - budget.window)
            )
            if total + (before if whole else 0) > budget.budget_gflop:
                return True
    return False


def _lower(beyond: Mapping[int, Bounds]) -> dict[int, int]:
    return {period: bounds.low for period, bounds in beyond.items() if bounds.low}


def _budgets(state: State, commitment: str) -> list[Exemption]:
    exemptions = state.commitments.standing(commitment).terms.exemptions
    return [exemption for exemption in exemptions if exemption.category == _TRAINING]


def _measure(state: State, commitment: str) -> Growth:
    measure = state.commitments.standing(commitment).terms.measure
    assert isinstance(measure, Growth)
    return measure
