"""All commitments of an agreement: the fold that a replay holds. It has no clock and does no I/O.

    registry = Registry(members)
    registry.propose(terms, "norland", index, time_ms)       # and pledge, withdraw, lift, extend, report, breach
    for deadline in registry.deadlines(): ...                # newly needed: the replay puts them into its own queue
    registry.fire(kind, subject, time_ms, index)             # when one is due, before the entry that brings it out
    registry.constraints_on("borealis", now_ms)              # for a gate, and for judging what was attested

Times are log times and never decrease; index is that of the entry that brings something out. Every refusal is Refused,
and then nothing has changed. What is firing moves only what exists at that place in the log, so that a withdrawal that
races an entry into force is decided by their order there, and by nothing else.
SPEC commitments-32: the state MUST be a function of the statements and deadlines in the order of the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pacekeeper.protocol import limits
from pacekeeper.protocol.commitments import checks, lifecycle, triggers, withdrawal
from pacekeeper.protocol.commitments.book import Book, Deadline, Performed
from pacekeeper.protocol.commitments.constraints import Constraints, Span, boundaries, strictest
from pacekeeper.protocol.commitments.pledges import Alternatives
from pacekeeper.protocol.commitments.standing import Moment, Standing
from pacekeeper.protocol.commitments.transitions import Event, Phase
from pacekeeper.protocol.commitments.triggers import Report, TriggerState
from pacekeeper.protocol.documents.commitment_members import roll_of
from pacekeeper.protocol.documents.commitment_model import Commitment, Members
from pacekeeper.protocol.errors import Code, Refused


class Registry:
    """The state of all commitments. Read it freely; only these methods change it."""

    def __init__(self, members: Members) -> None:
        self._book = Book(members)

    # --- statements

    def propose(self, terms: Commitment, proposer: str, index: int, time_ms: int) -> None:
        """Open a commitment. Its document was compiled with this registry's members.

        SPEC commitments-33: a commitment's id MUST be new, and its proposer one that may pledge.
        """
        book = self._book
        if terms.id in book.standings:
            raise Refused(Code.COMMITMENT_EXISTS, f'there is a commitment "{terms.id}" already')
        if len(book.standings) >= limits.MAX_COMMITMENTS:
            raise Refused(Code.TOO_LARGE, f"over {limits.MAX_COMMITMENTS} commitments")
        checks.check_participant(book.members, proposer)
        if time_ms >= terms.entry.pledges_by_ms:
            raise Refused(Code.PLEDGE_TOO_LATE, "its pledge deadline is over before it is proposed")
        roll = roll_of(terms, book.members)
        standing = Standing(terms, roll, proposer, index, time_ms)
        checks.check_scope(standing, proposer)
        book.standings[terms.id] = standing
        if terms.triggers is not None:
            standing.trigger = TriggerState(terms.triggers)
            for indicator in terms.triggers.indicators:
                book.watchers.setdefault(indicator.id, {})[terms.id] = None
        book.schedule(standing, lifecycle.PLEDGES, terms.entry.pledges_by_ms)
        last = [time for time in (terms.entry.lapses_ms, terms.term.expires_ms) if time is not None]
        if last:
            book.schedule(standing, lifecycle.LAPSE, min(last))
        standing.note("proposed", time_ms, index, proposer)

    def pledge(
        self,
        participant: str,
        commitment: str,
        alternatives: Alternatives,
        index: int,
        time_ms: int,
        *,
        round_number: int | None = None,
    ) -> None:
        """Take a pledge: unconditional, or bound if any of the alternatives holds of the set bound.

        SPEC commitments-34: a pledge MUST be by one in scope that has none standing, before the commitment is over;
        after the pledge deadline, it MUST bind at once.
        SPEC commitments-41: a pledge MUST count the participant's earlier ones, where round_number is given.
        """
        book, standing = self._book, self.standing(commitment)
        checks.check_participant(book.members, participant)
        checks.check_scope(standing, participant)
        if participant in standing.pledges:
            raise Refused(Code.PLEDGE_EXISTS, f'"{participant}" has pledged to "{commitment}" already')
        if standing.over:
            raise Refused(Code.PLEDGE_TOO_LATE, f'"{commitment}" is over')
        rounds = standing.rounds.get(participant, 0)
        if round_number not in (None, rounds):
            raise Refused(Code.WRONG_ROUND, f'"{participant}" has pledged {rounds} times before')
        checks.check_conditions(standing.roll, alternatives)
        if time_ms >= standing.terms.entry.pledges_by_ms:
            checks.check_joins_now(book, standing, participant, alternatives)
        standing.pledges[participant] = alternatives
        standing.pledged_at[participant] = index
        standing.rounds[participant] = rounds + 1
        book.pledged.setdefault(participant, {})[commitment] = None
        standing.note("pledged", time_ms, index, participant)
        lifecycle.settle(book, standing, time_ms, index)

    def withdraw(
        self,
        participant: str,
        commitment: str,
        reason: str,
        index: int,
        time_ms: int,
        *,
        pledge_index: int | None = None,
    ) -> int:
        """Take back a pledge; return when that takes effect: time_ms, or after notice.

        SPEC commitments-41: it MUST name the pledge that stands, where pledge_index is given.
        """
        book, standing = self._book, self.standing(commitment)
        if participant not in standing.pledges or standing.over:
            raise Refused(Code.NOT_PLEDGED, f'no pledge of "{participant}" to "{commitment}" stands')
        checks.check_pledge(standing, participant, pledge_index)
        if participant in standing.leaving:
            raise Refused(Code.NOTICE_GIVEN, f'the notice of "{participant}" is running')
        waits = standing.live and participant not in standing.bound
        phase = Phase.OPEN if waits else standing.phase
        in_force_ms = None if waits else standing.in_force_ms
        effect_ms = withdrawal.effect_ms(standing.terms, phase, in_force_ms, time_ms, reason)
        if effect_ms > time_ms:
            standing.leaving[participant] = effect_ms
            standing.note("notice", time_ms, index, participant, reason)
            book.schedule(standing, lifecycle.WITHDRAWAL, effect_ms, participant)
        else:
            lifecycle.leave(book, standing, participant, time_ms, index, reason)
        return effect_ms

    def lift(
        self, participant: str, commitment: str, index: int, time_ms: int, *, pledge_index: int | None = None
    ) -> None:
        """Take a bound participant's word for lifting; with enough of them it is lifted, or its ramp begins."""
        standing = self.standing(commitment)
        checks.check_vote(standing, participant, standing.terms.lifting.by, time_ms)
        checks.check_pledge(standing, participant, pledge_index)
        if standing.stage >= 0:
            raise Refused(Code.ABSENT_TRANSITION, "it is lifted, and its ramp has begun")
        if participant in standing.lift_votes:
            raise Refused(Code.VOTE_EXISTS, f'"{participant}" has spoken for lifting already')
        standing.lift_votes.add(participant)
        standing.note("vote-lift", time_ms, index, participant)
        lifecycle.count_votes(self._book, standing, time_ms, index)

    def extend(
        self,
        participant: str,
        commitment: str,
        index: int,
        time_ms: int,
        *,
        pledge_index: int | None = None,
        round_number: int | None = None,
    ) -> None:
        """Take a bound participant's word for extending the term; with enough of them it is extended."""
        standing = self.standing(commitment)
        checks.check_vote(standing, participant, standing.terms.term.extended_by, 0)
        checks.check_pledge(standing, participant, pledge_index)
        if round_number not in (None, standing.extensions):
            raise Refused(Code.WRONG_ROUND, f"it was extended {standing.extensions} times before")
        if standing.extensions >= standing.terms.term.extensions:
            raise Refused(Code.NOT_LIFTABLE, "it was extended as often as it can be")
        if participant in standing.extend_votes:
            raise Refused(Code.VOTE_EXISTS, f'"{participant}" has spoken for extending already')
        standing.extend_votes.add(participant)
        standing.note("vote-extend", time_ms, index, participant)
        lifecycle.count_votes(self._book, standing, time_ms, index)

    def report(self, report: Report, index: int, time_ms: int) -> None:
        """Take an indicator's report, and let the commitments that watch it judge their triggers."""
        book = self._book
        checks.check_participant(book.members, report.reporter)
        if report.until_ms > time_ms:
            raise Refused(Code.BAD_REPORT, "a report of what has not been measured yet")
        key = (report.indicator, report.reporter)
        triggers.check_sequence(book.measured.get(key), report)
        book.measured[key] = report.until_ms
        for commitment in list(book.watchers.get(report.indicator, ())):
            standing = book.standings[commitment]
            assert standing.trigger is not None
            if standing.trigger.observe(report):
                if standing.phase in (Phase.ARMED, Phase.IN_FORCE):
                    lifecycle.await_report(book, standing, *key, time_ms)
                lifecycle.judge_trigger(book, standing, time_ms, index)

    def breach(
        self, participant: str, index: int, time_ms: int, commitment: str | None = None, *, armed: bool = False
    ) -> None:
        """An established breach, by a lab or party, of one commitment or of all in force that bind it.

        armed: whether one that is named is ended also while it waits for its triggers: since version 3 of the rules.
        SPEC commitments-35: an established breach MUST release the others exactly if the commitment says so.
        SPEC commitments-78: that MUST NOT depend on whether the triggers are still met when the breach is established.
        """
        book = self._book
        phases = (Phase.IN_FORCE, Phase.ARMED) if armed and commitment is not None else (Phase.IN_FORCE,)
        for who in (participant, book.homes.get(participant)):
            places = book.active if commitment is None else book.pledged
            for ident in [ident for ident in places.get(who or "", ()) if commitment in (None, ident)]:
                standing = book.standings[ident]
                if standing.phase not in phases or who not in standing.bound:
                    continue
                standing.note("breach", time_ms, index, participant)
                if standing.terms.release_others:
                    lifecycle.end(book, standing, Event.RELEASED, time_ms, index)

    # --- what the replay knows besides

    def set_clean_periods(self, participant: str, periods: int) -> None:
        """Note how many periods in a row a participant has been without violation. It is judged when it would bind."""
        self._book.clean[participant] = periods

    def clean_periods(self) -> dict[str, int]:
        """Return what was noted so of everybody."""
        return dict(self._book.clean)

    def restore_clean_periods(self, noted: dict[str, int]) -> None:
        """Go back to what was noted before."""
        self._book.clean = noted

    def set_members(self, members: Members, index: int, time_ms: int) -> None:
        """Take over who the members are after an accession or exit; the pledges of who left fall away.

        SPEC commitments-58: who has left and was to report MUST be one that is silent: its tracks stay.
        """
        book = self._book
        gone = (book.members.parties | book.members.labs.keys()) - (members.parties | members.labs.keys())
        for participant in sorted(gone):
            for commitment in sorted(book.pledged.get(participant, ())):
                lifecycle.leave(book, book.standings[commitment], participant, time_ms, index)
        book.members = members
        book.homes.update(members.labs)

    # --- deadlines

    def deadlines(self) -> list[Deadline]:
        """Return the deadlines that have come to be needed since the last call."""
        return self._book.take_new()

    def performed(self) -> list[Performed]:
        """Return the acts whose time has come since the last call, for the replay to do."""
        return self._book.take_performed()

    def undone(self, act: Performed) -> None:
        """Note that an act could not be done any more when its time came."""
        self.standing(act.commitment).note("not-performed", act.time_ms, act.index)

    def fire(self, kind: str, subject: str, time_ms: int, index: int) -> None:
        """A deadline is due. One that is no longer needed does nothing."""
        book = self._book
        task = book.take_task(subject)
        if task is None:
            return
        assert task.kind == kind
        standing = book.standings[task.commitment]
        match kind:
            case lifecycle.PLEDGES:
                lifecycle.close_pledges(book, standing, time_ms, index)
            case lifecycle.DELAY:
                lifecycle.enter(book, standing, time_ms, index)
            case lifecycle.LAPSE:
                standing.move(Event.LAPSE_DATE, time_ms, index)
                lifecycle.forget(book, standing)
            case lifecycle.EXPIRY:
                lifecycle.end(book, standing, Event.EXPIRED, time_ms, index)
            case lifecycle.STAGE:
                lifecycle.next_stage(book, standing, time_ms, index)
            case lifecycle.WITHDRAWAL:
                lifecycle.leave(book, standing, task.detail, time_ms, index)
            case lifecycle.REPORT:
                lifecycle.overdue(book, standing, task.detail, time_ms, index)

    # --- reading

    def standing(self, commitment: str) -> Standing:
        """Return a commitment as it stands. Raises Refused(unknown-commitment)."""
        standing = self._book.standings.get(commitment)
        if standing is None:
            raise Refused(Code.UNKNOWN_COMMITMENT, f'there is no commitment "{commitment}"')
        return standing

    def standings(self) -> Mapping[str, Standing]:
        """Return all commitments by id, in the order in which they were proposed."""
        return self._book.standings

    def pledged_by(self, participant: str) -> list[Standing]:
        """Return the commitments to which a participant's pledge stands."""
        return [self._book.standings[ident] for ident in self._book.pledged.get(participant, ())]

    def constraints_on(self, lab: str, now_ms: int) -> Constraints:
        """Return what a lab may do at a moment, as far as the log is known.

        SPEC commitments-38: a look ahead MUST tighten by what is planned, and loosen only by what is a fact.
        """
        return replace(strictest(self._book.spans(lab, now_ms), now_ms), lease=self._book.lease(lab))

    def spans(self, lab: str, start_ms: int, end_ms: int) -> list[Span]:
        """Return every span of a lab and its party that touches [start, end): what a period's figures are judged by."""
        found = [span for span in self._book.spans(lab, start_ms) if span.from_ms < end_ms]
        return sorted(found, key=lambda span: (span.from_ms, span.commitment))

    def boundaries(self, lab: str, start_ms: int, end_ms: int) -> tuple[int, ...]:
        """Return the times inside [start, end) at which a lab's figures must be split."""
        return boundaries(self._book.spans(lab, start_ms), start_ms, end_ms)

    def timeline(self, commitment: str) -> tuple[Moment, ...]:
        """Return what happened to a commitment, in order."""
        return tuple(self.standing(commitment).timeline)

    def describe(self, *, reasons: bool = False) -> dict[str, object]:
        """Return the whole state as JSON-able values in a fixed order, for the digest; see Standing.describe."""
        return self._book.describe(reasons=reasons)
