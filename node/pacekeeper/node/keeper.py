"""The keeper: watches time go by for a lab, and signs what the agenda says when it says so.

It beats, so that the journal knows when the daemon watched, and notices when it did not: a machine that slept or a
clock that was set leaves a stretch that nobody watched, and that is accounted for as such.
"""

from __future__ import annotations

from typing import Final

from pacekeeper.node.accounts import build_account
from pacekeeper.node.agenda import Attest, Correct, DeclareGap, Step, grace_ms, is_closed, next_step, steady_ms
from pacekeeper.node.book import Book
from pacekeeper.node.chain import next_link
from pacekeeper.node.clock import Clock
from pacekeeper.node.config import LabSettings
from pacekeeper.node.desk import Desk
from pacekeeper.node.gate import LEAD_MS
from pacekeeper.node.reader import Reader
from pacekeeper.node.records import ATTESTATION, CORRECTION, GAP, Beat, Inventory, Split, Up
from pacekeeper.node.terms import Terms
from pacekeeper.protocol.compute.bounds import Bounds
from pacekeeper.protocol.documents.agreement import Agreement
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.v1 import statements_pb2 as pb

_LONGEST_BEAT_MS: Final = 10_000
_STEP_MS: Final = 2_000  # wall and monotonic clock drift apart by less than this between two looks, or one was set


class Keeper:
    """Beats and signs. tick() is called a few times a second and never waits."""

    def __init__(self, book: Book, desk: Desk, reader: Reader, settings: LabSettings, clock: Clock) -> None:
        self._book = book
        self._desk = desk
        self._reader = reader
        self._settings = settings
        self._terms = Terms(settings, reader)
        self._clock = clock
        # A beat costs an fsync; what a killed daemon watched since its last one counts as not watched.
        self._beat_ms = max(250, min(_LONGEST_BEAT_MS, self._agreement.calendar.period_ms // 20))
        self._beaten = self._looked = (0, 0)
        self._not_before_ms = 0
        self._split_as_of = (0, 0)
        self.problem = ""
        self.clock_problem = ""

    @property
    def _agreement(self) -> Agreement:
        return self._terms.agreement

    def start(self) -> None:
        """Note that the daemon watches from now on, and which accelerators the lab has."""
        now_ms = self._look()
        settings = self._settings
        inventory = Inventory(now_ms, settings.pools, settings.chip_time_margin_ppm)
        known = self._book.ledger.inventories
        same = bool(known) and (known[-1].pools, known[-1].chip_time_margin_ppm) == (
            inventory.pools,
            inventory.chip_time_margin_ppm,
        )
        self._book.write(*(() if same else (inventory,)), Up(now_ms))
        # Jobs that ran on while the daemon was away need a moment to find it again.
        self._not_before_ms = self._clock.monotonic_ms() + grace_ms(self._agreement)

    def tick(self) -> None:
        """Beat if it is time, and sign if there is something to sign. Raises Refused(unsafe-state) only."""
        if self._book.broken is not None:
            raise self._book.broken
        try:
            self._watch()
            self._note_splits()
            step = self._next()
            if step is not None:
                self._sign(step)
            self.problem = ""
        except Refused as refused:
            if refused.code is Code.UNSAFE_STATE:
                raise
            self.problem = refused.message  # a full disk: the same step is due again at the next tick

    def stop(self) -> None:
        """Note until when the daemon watched."""
        self._book.write(Beat(self._clock.now_ms()))

    @property
    def steady_ms(self) -> int:
        """The lab's time (agenda.steady_ms)."""
        return steady_ms(self._agreement, self._clock.now_ms(), self._reader.log_ms)

    def _watch(self) -> None:
        before_ms, before_monotonic_ms = self._looked
        now_ms = self._look()
        stepped_ms = (now_ms - before_ms) - (self._looked[1] - before_monotonic_ms)
        if abs(stepped_ms) > _STEP_MS:
            # SPEC node-23: time over which the clock was set or the machine slept MUST NOT count as watched.
            self._book.write(Beat(before_ms), Up(now_ms))
            self._beaten = self._looked
            self.clock_problem = f"the machine's clock was set or slept by {stepped_ms} ms at {now_ms}"
        elif self._looked[1] - self._beaten[1] >= self._beat_ms:
            self._beat(now_ms)

    def _look(self) -> int:
        self._looked = (self._clock.now_ms(), self._clock.monotonic_ms())
        return self._looked[0]

    def _beat(self, now_ms: int) -> None:
        self._book.write(Beat(now_ms))
        self._beaten = self._looked

    def _note_splits(self) -> None:
        """Note where the periods that still take an account or correction are split.

        SPEC node-33: each boundary MUST be in the journal as soon as it is known, a little ahead of its time, so that
        what was used on either side of it stays told apart.
        """
        state, now_ms = self._reader.state, max(self._clock.now_ms(), self._reader.log_ms)
        if state is None or not self._reader.caught_up or (state.size, now_ms // 1_000) == self._split_as_of:
            return
        self._split_as_of = (state.size, now_ms // 1_000)
        agreement, known = self._agreement, self._book.ledger.splits
        oldest_ms = now_ms - agreement.calendar.fill_in_ms - agreement.calendar.period_ms
        for time_ms in state.commitments.boundaries(self._settings.lab.id, oldest_ms, now_ms + LEAD_MS):
            period = agreement.period_of(time_ms)
            inside = time_ms > agreement.period_start_ms(period)
            if inside and time_ms not in known.get(period, ()) and not is_closed(agreement, period, now_ms):
                self._book.write(Split(self._clock.now_ms(), period, time_ms))

    def _next(self) -> Step | None:
        if not self._reader.caught_up or self._clock.monotonic_ms() < self._not_before_ms:
            return None
        membership = self._terms.membership()
        if membership is None:
            return None
        settings = self._settings
        return next_step(
            self._book.ledger,
            self._agreement,
            self.steady_ms,
            settled=self._desk.settled,
            held=settings.hold_periods,
            fill_in_held=settings.fill_in_held,
            membership=membership,
            terms_of=self._terms.of_period,
        )

    def _account(self, period: int) -> pb.PeriodAccount:
        ledger, agreement, state = self._book.ledger, self._terms.of_period(period), self._reader.state
        if state is None:
            return build_account(ledger, agreement, period)
        lab, lineage = state.labs[self._settings.lab.id], state.lineage
        spans = state.commitments.spans(lab.id, agreement.period_start_ms(period), agreement.period_end_ms(period))

        def before(name: str) -> Bounds | None:
            run = lab.runs.get(name)
            return lineage.inherited(run).plus(state.attested_before(run, period)) if run is not None else None

        return build_account(ledger, agreement, period, spans, before)

    def _sign(self, step: Step) -> None:
        self._beat(self._look())
        ledger, fingerprint, lab = self._book.ledger, self._agreement.fingerprint, self._settings.lab.id
        link = next_link(ledger)
        match step:
            case Attest(period):
                account = self._account(period)
                self._book.sign(
                    ATTESTATION, pb.ComputeAttestation(agreement=fingerprint, lab=lab, link=link, account=account)
                )
            case Correct(period):
                account = self._account(period)
                correction = pb.Correction(
                    agreement=fingerprint,
                    lab=lab,
                    link=link,
                    account=account,
                    corrects=ledger.account_ids[period],
                    note="reported after the account was made",
                )
                self._book.sign(CORRECTION, correction)
            case DeclareGap(first, last, reason, note):
                gap = pb.Gap(
                    agreement=fingerprint,
                    lab=lab,
                    link=link,
                    first_period=first,
                    last_period=last,
                    reason=reason,
                    note=note,
                )
                self._book.sign(GAP, gap)
