"""What `simulate` is asked to play: pledges, withdrawals, votes and reports, each at a time, as options write them.

norland                                    an unconditional pledge, when the simulation begins
norland:parties>=3, labs>=1                on a condition; alternatives are separated by |
norland:with sudland@2026-02-01T00:00:00Z  at a time
merged-code:borealis:85 %@TIME             a report: indicator, reporter, value
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from pacekeeper.cli.commitments.statements import parse_values
from pacekeeper.client.errors import ConfigError
from pacekeeper.protocol.commitments.player import Step
from pacekeeper.protocol.commitments.triggers import Report
from pacekeeper.protocol.commitments.wording import parse_condition
from pacekeeper.protocol.documents.commitment_model import Commitment, Members, Pause, SlowDown
from pacekeeper.protocol.units import parse_time

_VALUE: Final = re.compile(r"([0-9.]+) ?([A-Za-z%][A-Za-z0-9%/-]{0,15})")
_CLEAN: Final = 1_000_000  # periods; more than any entry rule can ask for


def parse_moment(text: str | None, option: str, default_ms: int) -> int:
    """Read a time, or return the default. ConfigError names the option."""
    try:
        return default_ms if text is None else parse_time(text)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from None


def plan(
    members: Members,
    from_ms: int,
    *,
    pledges: Iterable[str],
    withdrawals: Iterable[str] = (),
    lifts: Iterable[str] = (),
    reports: Iterable[str] = (),
    clean: Iterable[str] = (),
) -> list[Step]:
    """Read the options into steps. Whoever has no --clean of its own is taken to be clean."""
    periods = dict.fromkeys(sorted(members.parties | members.labs.keys()), _CLEAN)
    for text in clean:
        who, colon, count = text.partition(":")
        if not colon or not count.isdecimal() or not count.isascii() or len(count) > 7:
            raise ConfigError(f'--clean "{text}": expected ID:PERIODS')
        periods[who] = int(count)
    steps = [Step(from_ms, "clean", who, periods=count) for who, count in periods.items()]
    steps += [_pledge(text, from_ms) for text in pledges]
    for action, texts in (("withdraw", withdrawals), ("lift", lifts)):
        for text in texts:
            who, time_ms = _timed(text, f"--{action}", from_ms)
            steps.append(Step(time_ms, action, who, reason="simulated"))
    return steps + [_report(text, from_ms) for text in reports]


def _timed(text: str, option: str, from_ms: int) -> tuple[str, int]:
    what, at, moment = text.partition("@")
    time_ms = parse_moment(moment if at else None, f'{option} "{text}"', from_ms)
    if time_ms < from_ms:
        raise ConfigError(f'{option} "{text}": before the simulation begins')
    return what.strip(), time_ms


def _pledge(text: str, from_ms: int) -> Step:
    what, time_ms = _timed(text, "--pledge", from_ms)
    who, colon, conditions = what.partition(":")
    try:
        alternatives = tuple(parse_condition(part) for part in conditions.split("|")) if colon else ()
    except ValueError as error:
        raise ConfigError(f'--pledge "{text}": {error}') from None
    return Step(time_ms, "pledge", who.strip(), alternatives=alternatives)


def _report(text: str, from_ms: int) -> Step:
    what, time_ms = _timed(text, "--report", from_ms)
    parts = [part.strip() for part in what.split(":")]
    value = _VALUE.fullmatch(parts[-1]) if len(parts) == 3 else None
    if value is None:
        raise ConfigError(f'--report "{text}": expected INDICATOR:REPORTER:VALUE UNIT[@TIME]')
    scale, (lower, central, upper) = parse_values(value[1], value[1], value[1])
    report = Report(parts[0], parts[1], value[2], scale, lower, central, upper, censored=False, until_ms=time_ms)
    return Step(time_ms, "report", parts[1], report=report)


def first_consequences_ms(terms: Commitment, steps: list[Step]) -> int:
    """Return a time by which all that these steps bring about first has come: entry, what it constrains, and, with
    triggers, what follows where nobody reports."""
    entry, measure = terms.entry, terms.measure
    last_ms = max(entry.effective_ms or 0, *(step.time_ms for step in steps))
    wind_down_ms = measure.wind_down_ms if isinstance(measure, Pause | SlowDown) else 0
    silence_ms = 0
    if terms.triggers is not None:
        silence_ms = max(indicator.every_ms + indicator.grace_ms for indicator in terms.triggers.indicators)
    return last_ms + entry.delay_ms + silence_ms + entry.notice_ms + wind_down_ms
