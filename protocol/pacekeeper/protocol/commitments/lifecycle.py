"""What happens to one commitment: the fixed point taken again, entry, triggers, ramp, end.

Each function is called with the log time and index at which it happens, does one thing to a standing and keeps the
book's indexes right. Nothing here refuses a statement: registry.py has checked it.
"""

from __future__ import annotations

from typing import Final

from pacekeeper.protocol.commitments import entry
from pacekeeper.protocol.commitments.book import Book
from pacekeeper.protocol.commitments.pledges import Condition, bound_set, satisfied
from pacekeeper.protocol.commitments.standing import Force, Standing
from pacekeeper.protocol.commitments.transitions import Event, Phase

DELAY: Final = "commitment-delay"
EXPIRY: Final = "commitment-expiry"
LAPSE: Final = "commitment-lapse"
PLEDGES: Final = "commitment-pledges"
REPORT: Final = "commitment-report"
STAGE: Final = "commitment-stage"
WITHDRAWAL: Final = "commitment-withdrawal"


def settle(book: Book, standing: Standing, now_ms: int, index: int) -> None:
    """Take the fixed point again after pledges changed, and let follow what follows."""
    if standing.phase is Phase.OPEN:
        _try_entry(book, standing, now_ms, index)
    elif standing.live:
        _rebind(book, standing, now_ms, index)


def would_bind(book: Book, standing: Standing, extra: dict[str, tuple[Condition, ...]]) -> frozenset[str]:
    """Return the set bound if these pledges were added: of those bound already, and of those clean enough.

    SPEC commitments-17: the set bound MUST be the greatest set of pledgers whose conditions hold of it; whoever acceded
    since the proposal counts in nobody's arithmetic.
    SPEC commitments-30: clean periods MUST be judged once, when a pledger would be bound.
    """
    needed = standing.terms.entry.clean_periods
    pledges = {
        who: pledge
        for who, pledge in (standing.pledges | extra).items()
        if who in standing.bound or book.clean.get(who, 0) >= needed
    }
    return bound_set(standing.roll, pledges)


def _try_entry(book: Book, standing: Standing, now_ms: int, index: int) -> None:
    bound = would_bind(book, standing, {})
    if not bound or not entry.rule_met(standing.terms, standing.roll, bound):
        return
    rule = standing.terms.entry
    standing.move(Event.RULE_MET, now_ms, index)
    standing.met_ms = now_ms
    standing.in_force_ms = entry.entry_ms(rule, now_ms)
    standing.constraints_ms = entry.constraints_ms(rule, standing.in_force_ms, now_ms)
    for who in sorted(bound):
        _bind(book, standing, who, standing.constraints_ms, now_ms, index)
    book.schedule(standing, DELAY, standing.in_force_ms)


def _bind(book: Book, standing: Standing, who: str, from_ms: int, now_ms: int, index: int) -> None:
    standing.bound[who] = from_ms
    standing.note("bound", now_ms, index, who)
    book.index_active(standing, who)


def _rebind(book: Book, standing: Standing, now_ms: int, index: int) -> None:
    assert standing.in_force_ms is not None
    bound = would_bind(book, standing, {})
    for who in sorted(bound - standing.bound.keys()):
        from_ms = entry.joining_ms(standing.terms.entry, standing.in_force_ms, now_ms)
        _bind(book, standing, who, from_ms, now_ms, index)
    for who in sorted(standing.bound.keys() - bound):
        unbind(book, standing, who, now_ms, index)
    if not entry.stands(standing.terms, standing.roll, bound, standing.phase):
        end(book, standing, Event.COLLAPSE, now_ms, index)
    else:
        count_votes(book, standing, now_ms, index)


def unbind(book: Book, standing: Standing, who: str, now_ms: int, index: int) -> None:
    """Free a participant from now on. A pledge that waits for its condition stands until the pledge deadline."""
    book.close_span(standing, who, now_ms)
    book.unindex_active(standing, who)
    del standing.bound[who]
    if standing.leaving.pop(who, None) is not None:
        book.cancel(standing, WITHDRAWAL, who)
    standing.lift_votes.discard(who)
    standing.extend_votes.discard(who)
    standing.note("unbound", now_ms, index, who)
    if f"{PLEDGES} " not in standing.due:
        drop_pledge(book, standing, who)


def drop_pledge(book: Book, standing: Standing, who: str) -> None:
    """Forget a pledge."""
    standing.pledges.pop(who, None)
    standing.pledged_at.pop(who, None)
    book.pledged.get(who, {}).pop(standing.terms.id, None)


def enter(book: Book, standing: Standing, now_ms: int, index: int) -> None:
    """The delay is over: enter into force, or arm the triggers."""
    fixed_ms = standing.met_ms
    assert fixed_ms is not None
    standing.move(Event.DELAY_OVER, now_ms, index)
    standing.in_force_ms = now_ms
    book.cancel(standing, LAPSE)
    term = standing.terms.term
    standing.expires_ms = term.expires_ms if term.length_ms is None else now_ms + term.length_ms
    if standing.expires_ms is not None:
        book.schedule(standing, EXPIRY, standing.expires_ms)
    if standing.trigger is None:
        activate(book, standing, now_ms, fixed_ms, index)
        return
    for who in standing.bound:
        book.index_active(standing, who)
    for indicator, reporter in standing.trigger.tracks:
        await_report(book, standing, indicator, reporter, now_ms)
    judge_trigger(book, standing, now_ms, index)


def await_report(book: Book, standing: Standing, indicator: str, reporter: str, now_ms: int) -> None:
    """Set the deadline of a reporter's next report."""
    assert standing.trigger is not None
    wanted = standing.trigger.indicator(indicator)
    book.schedule(standing, REPORT, now_ms + wanted.every_ms + wanted.grace_ms, f"{indicator} {reporter}")


def judge_trigger(book: Book, standing: Standing, now_ms: int, index: int) -> None:
    """Let the trigger bring the commitment into force or out of it; a ramp once begun goes to its end."""
    if standing.trigger is None or standing.stage >= 0:
        return
    on = standing.trigger.is_on()
    if on and standing.phase is Phase.ARMED:
        activate(book, standing, now_ms, now_ms, index)
    elif not on and standing.phase is Phase.IN_FORCE:
        if standing.trigger.rule.when_below == "end":
            lift(book, standing, now_ms, index)
        else:
            _close_force(book, standing, now_ms)
            standing.move(Event.TRIGGER_OFF, now_ms, index)
            for who in standing.bound:
                book.index_active(standing, who)


def activate(book: Book, standing: Standing, now_ms: int, fixed_ms: int, index: int) -> None:
    """In force: constraints begin, or the act is done."""
    standing.move(Event.TRIGGER_ON, now_ms, index)
    if standing.terms.act is not None:
        end(book, standing, Event.PERFORMED, now_ms, index)
        book.perform(standing, standing.terms.act, now_ms, index)
        return
    from_ms = entry.constraints_ms(standing.terms.entry, now_ms, fixed_ms)
    standing.force = Force(from_ms, from_ms)
    for who in standing.bound:
        book.index_active(standing, who)


def count_votes(book: Book, standing: Standing, now_ms: int, index: int) -> None:
    """Lift or extend once enough of those bound have said so.

    SPEC commitments-31: a lift or extension MUST have the votes of bound participants that its rule asks for, or of all
    that are bound if they are fewer.
    """
    terms = standing.terms
    if standing.stage < 0 and _carried(standing, terms.lifting.by, standing.lift_votes):
        lift(book, standing, now_ms, index)
    elif _carried(standing, terms.term.extended_by, standing.extend_votes):
        standing.extend_votes.clear()
        standing.extensions += 1
        assert standing.expires_ms is not None
        standing.expires_ms += terms.term.extension_ms
        standing.note("extended", now_ms, index)
        book.schedule(standing, EXPIRY, standing.expires_ms)


def _carried(standing: Standing, rule: Condition | None, votes: set[str]) -> bool:
    return (
        rule is not None and bool(votes) and (satisfied(rule, standing.roll, votes) or votes >= standing.bound.keys())
    )


def lift(book: Book, standing: Standing, now_ms: int, index: int) -> None:
    """Begin the ramp, or end at once when there is none or nothing is in force."""
    if standing.phase is Phase.IN_FORCE and standing.terms.lifting.stages:
        next_stage(book, standing, now_ms, index)
    else:
        end(book, standing, Event.LIFTED, now_ms, index)


def next_stage(book: Book, standing: Standing, now_ms: int, index: int) -> None:
    """Go on to the ramp's next stage, or end after the last."""
    stages = standing.terms.lifting.stages
    standing.stage += 1
    if standing.stage >= len(stages):
        end(book, standing, Event.LIFTED, now_ms, index)
        return
    stage, force = stages[standing.stage], standing.force
    assert force is not None
    for who in sorted(standing.bound):
        book.close_span(standing, who, now_ms)
    standing.force = Force(force.began_ms, max(now_ms, force.from_ms), stage.limit)
    standing.note("ramp", now_ms, index)
    book.schedule(standing, STAGE, now_ms + stage.lasts_ms)


def end(book: Book, standing: Standing, event: Event, now_ms: int, index: int) -> None:
    """Nothing of it holds from now on."""
    _close_force(book, standing, now_ms)
    standing.move(event, now_ms, index)
    book.cancel_all(standing)
    for who in standing.bound:
        book.unindex_active(standing, who)
    for who in list(standing.pledges):
        book.pledged.get(who, {}).pop(standing.terms.id, None)
    if standing.trigger is not None:
        for indicator in standing.trigger.rule.indicators:
            book.watchers.get(indicator.id, {}).pop(standing.terms.id, None)


def _close_force(book: Book, standing: Standing, now_ms: int) -> None:
    for who in sorted(standing.bound):
        book.close_span(standing, who, now_ms)
    standing.force = None


def close_pledges(book: Book, standing: Standing, now_ms: int, index: int) -> None:
    """The pledge deadline is there.

    SPEC commitments-36: at the pledge deadline the rule MUST be met or the commitment fails, and pledges that do not
    bind expire.
    """
    settle(book, standing, now_ms, index)
    if standing.phase is Phase.OPEN:
        standing.move(Event.DEADLINE, now_ms, index)
        forget(book, standing)
        return
    for who in sorted(standing.pledges.keys() - standing.bound.keys()):
        standing.note("pledge-expired", now_ms, index, who)
        drop_pledge(book, standing, who)


def leave(book: Book, standing: Standing, who: str, now_ms: int, index: int, reason: str = "") -> None:
    """A withdrawal takes effect. reason: as stated just now; that of a notice stands with the notice."""
    was_live = standing.phase in (Phase.ARMED, Phase.IN_FORCE)
    if who in standing.bound:
        unbind(book, standing, who, now_ms, index)
    drop_pledge(book, standing, who)
    standing.note("withdrawn", now_ms, index, who, reason)
    if was_live and standing.terms.withdrawal.ends_all:
        end(book, standing, Event.COLLAPSE, now_ms, index)
    else:
        settle(book, standing, now_ms, index)


def overdue(book: Book, standing: Standing, detail: str, now_ms: int, index: int) -> None:
    """A reporter has not reported in time; detail is the indicator and the reporter.

    SPEC commitments-37: who does not report beyond the grace MUST count as met, for that indicator's family only.
    """
    indicator, _, reporter = detail.partition(" ")
    assert standing.trigger is not None
    standing.trigger.tracks[indicator, reporter].overdue = True
    standing.note("overdue", now_ms, index, f"{indicator}/{reporter}")
    judge_trigger(book, standing, now_ms, index)


def forget(book: Book, standing: Standing) -> None:
    """Take a commitment that failed out of every index."""
    book.cancel_all(standing)
    for who in list(standing.pledges):
        book.unindex_active(standing, who)
        book.pledged.get(who, {}).pop(standing.terms.id, None)
    if standing.trigger is not None:
        for indicator in standing.trigger.rule.indicators:
            book.watchers.get(indicator.id, {}).pop(standing.terms.id, None)
