"""Usage of one job, split by the agreement's calendar. Pure: integers in, integers out, no clock.

A job has running totals: operations, steps. A sample says what the totals are at a moment; the ledger gives what was
added since the last sample to the periods between the two, so that figures are cumulative per period and two ledgers
of the same samples agree.

Example: with periods of 10 s from time 0, one chip, opened at 8 s, a sample of 600 operations at 14 s gives 200
operations and 2000 chip-ms to period 0, and 400 operations and 4000 chip-ms to period 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from pacekeeper.protocol.limits import MAX_TIME_MS


@dataclass(frozen=True, slots=True)
class PeriodCalendar:
    """The agreement's periods: number k is [epoch_ms + k * period_ms, epoch_ms + (k + 1) * period_ms)."""

    epoch_ms: int
    period_ms: int

    def __post_init__(self) -> None:
        if not 0 <= self.epoch_ms <= MAX_TIME_MS or not 0 < self.period_ms <= MAX_TIME_MS:
            raise ValueError("a calendar needs an epoch and a period length above zero")

    def period_of(self, time_ms: int) -> int:
        """The number of the period that holds a moment. ValueError before the epoch."""
        if time_ms < self.epoch_ms:
            raise ValueError("the moment lies before the agreement's first period")
        return (time_ms - self.epoch_ms) // self.period_ms

    def start_ms(self, period: int) -> int:
        """The first moment of a period."""
        return self.epoch_ms + period * self.period_ms


@dataclass(frozen=True, slots=True, order=True)
class PeriodFigure:
    """What a job used within one period, cumulative within it. flop is unbounded and not in giga."""

    period: int
    flop: int
    steps: int
    chip_ms: int

    def __post_init__(self) -> None:
        if min(self.period, self.flop, self.steps, self.chip_ms) < 0:
            raise ValueError("a figure is never negative")


class UsageLedger:
    """Cumulative usage per period of one job that occupies a fixed number of chips since opened_ms."""

    def __init__(self, calendar: PeriodCalendar, chips: int, opened_ms: int) -> None:
        if chips < 1:
            raise ValueError("a job occupies at least one chip")
        calendar.period_of(opened_ms)
        self.calendar = calendar
        self.chips = chips
        self._sampled_ms = opened_ms
        self._flop = 0
        self._steps = 0
        self._periods: dict[int, PeriodFigure] = {}

    @property
    def sampled_ms(self) -> int:
        """The moment of the last sample, or of opening."""
        return self._sampled_ms

    def advance(self, now_ms: int, flop: int, steps: int) -> None:
        """Take the job's totals as of now_ms. ValueError if a total went down.

        SPEC metering-1: chip time is chips times the wall time from open to close, split exactly at period ends.
        SPEC metering-2: what was counted between two samples is spread over the time between them, in integers, and
        nothing is lost to rounding.
        A moment before the last sample counts as the last sample's: time does not run back here.
        """
        if flop < self._flop or steps < self._steps:
            raise ValueError("a job's totals never go down")
        start, end = self._sampled_ms, max(now_ms, self._sampled_ms)
        new_flop, new_steps = flop - self._flop, steps - self._steps
        self._sampled_ms, self._flop, self._steps = end, flop, steps
        if start == end:
            if new_flop or new_steps:
                self._add(self.calendar.period_of(end), new_flop, new_steps, 0)
            return
        given_flop = given_steps = 0
        position = start
        while position < end:
            period = self.calendar.period_of(position)
            stop = min(self.calendar.start_ms(period + 1), end)
            upto_flop = new_flop * (stop - start) // (end - start)
            upto_steps = new_steps * (stop - start) // (end - start)
            self._add(period, upto_flop - given_flop, upto_steps - given_steps, self.chips * (stop - position))
            given_flop, given_steps, position = upto_flop, upto_steps, stop

    def skip(self, now_ms: int) -> None:
        """Pass over the time up to now_ms: for it no chip time is counted. Call advance() first for what came before.

        SPEC metering-25: only time that was seen to be stood still in MUST be passed over.
        """
        self._sampled_ms = max(self._sampled_ms, now_ms)

    def _add(self, period: int, flop: int, steps: int, chip_ms: int) -> None:
        old = self._periods.get(period, PeriodFigure(period, 0, 0, 0))
        self._periods[period] = PeriodFigure(period, old.flop + flop, old.steps + steps, old.chip_ms + chip_ms)

    def figures(self) -> tuple[PeriodFigure, ...]:
        """Every period's cumulative usage, ascending by period."""
        return tuple(sorted(self._periods.values()))

    def ms_to_boundary(self, now_ms: int) -> int:
        """Milliseconds from now_ms to the end of its period, at least one."""
        period = self.calendar.period_of(max(now_ms, self._sampled_ms))
        return max(1, self.calendar.start_ms(period + 1) - now_ms)
