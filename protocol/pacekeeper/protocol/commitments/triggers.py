"""Triggers: when reports of indicators bring a commitment into force, and when they no longer do.

Each reporter of each indicator has a track. It turns on when so many reports in a row have their lower bound at or
above the level, and off when so many have their upper bound below the off-level: in between it stays as it is. A
censored value is no number: it is as if there were no report. Who is silent beyond the grace counts as met, but only
for the family of that indicator; so no family can be muted, and none can trigger alone.

Values are whole numbers with a decimal scale: value 1234 at scale 2 is 12.34 of the indicator's unit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pacekeeper.protocol.documents.commitment_model import Indicator, TriggerRule
from pacekeeper.protocol.errors import Code, Refused

_MICRO: Final = 10**6


@dataclass(frozen=True, slots=True)
class Report:
    """One report: lower <= central <= upper, whole numbers with scale decimal places, of what was measured until a
    time. A censored report says only that a value lies beyond what was measured."""

    indicator: str
    reporter: str
    unit: str
    scale: int
    lower: int
    central: int
    upper: int
    censored: bool
    until_ms: int


@dataclass(slots=True)
class Track:
    """What one reporter's reports say: on, how many in a row speak for a change, and whether the next is overdue."""

    on: bool = False
    streak: int = 0
    until_ms: int = -1
    overdue: bool = False

    @property
    def met(self) -> bool:
        return self.on or self.overdue


@dataclass(slots=True)
class TriggerState:
    """The tracks of a commitment's indicators, by (indicator, reporter)."""

    rule: TriggerRule
    tracks: dict[tuple[str, str], Track] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for indicator in self.rule.indicators:
            for reporter in indicator.reporters:
                self.tracks[indicator.id, reporter] = Track()

    def indicator(self, ident: str) -> Indicator:
        return next(indicator for indicator in self.rule.indicators if indicator.id == ident)

    def observe(self, report: Report) -> bool:
        """Take a report; return whether it counts, and so fulfils the reporter's duty until the next is due.

        SPEC commitments-22: a report MUST count only with a number, in the indicator's unit, by one of its reporters,
        and measured at least the interval after the last that counted.
        """
        track = self.tracks.get((report.indicator, report.reporter))
        if track is None or report.censored:
            return False
        indicator = self.indicator(report.indicator)
        if report.unit != indicator.unit:
            return False
        if track.until_ms >= 0 and report.until_ms < track.until_ms + indicator.every_ms:
            return False
        track.until_ms, track.overdue = report.until_ms, False
        _count(track, report, indicator)
        return True

    def is_on(self) -> bool:
        """Whether enough families are met, one external among them.

        SPEC commitments-23: a trigger MUST be on exactly while the families that are met are as many as its rule asks
        for and one of them is external; a family is met by one indicator that is on or overdue.
        """
        met: dict[str, str] = {}
        for indicator in self.rule.indicators:
            if any(self.tracks[indicator.id, reporter].met for reporter in indicator.reporters):
                met[indicator.family] = indicator.source
        return len(met) >= self.rule.families and "external" in met.values()


def _count(track: Track, report: Report, indicator: Indicator) -> None:
    """SPEC commitments-24: a track MUST turn on by lower bounds at or above on and off by upper bounds below off, each
    in as many counted reports in a row as the indicator asks for; censored ones interrupt nothing and count for
    nothing."""
    scale = 10**report.scale
    if track.on:
        speaks = report.upper * _MICRO < indicator.off_micro * scale
    else:
        speaks = report.lower * _MICRO >= indicator.on_micro * scale
    track.streak = track.streak + 1 if speaks else 0
    if track.streak >= indicator.reports:
        track.on, track.streak = not track.on, 0


def check_sequence(last_until_ms: int | None, report: Report) -> None:
    """Refuse a report that goes back behind the same reporter's last one on the same indicator."""
    if last_until_ms is not None and report.until_ms <= last_until_ms:
        raise Refused(Code.BAD_REPORT, "a report of what was measured no later than in the reporter's last one")
