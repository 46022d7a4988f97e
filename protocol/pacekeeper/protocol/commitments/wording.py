"""Conditions as people type and read them: what follows `--if`, and what a time line shows.

A conjunction is a list with commas: "parties>=3, labs>=2, weight>=55 %, with norland+sudland". Alternatives are
separated by " or ". No condition at all is "in any case".

Example: format_condition(parse_condition("with sudland+norland,parties>=2")) == "parties>=2, with norland+sudland"
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pacekeeper.protocol import limits
from pacekeeper.protocol.commitments.pledges import Alternatives, Condition
from pacekeeper.protocol.documents.commitment_model import CapLimits, Growth
from pacekeeper.protocol.documents.describe import describe_cap, exact_flop
from pacekeeper.protocol.readings import is_id
from pacekeeper.protocol.text import count_of
from pacekeeper.protocol.units import format_percent, parse_percent

_COUNT: Final = re.compile(r"(parties|labs) *>= *([1-9][0-9]{0,3})")
_SHARE: Final = re.compile(r"weight *>= *([0-9.]+) *%")
_NAMES: Final = re.compile(r"with +([a-z0-9+ -]+)")


def parse_condition(text: str) -> Condition:
    """Read a conjunction. ValueError if a demand is not one, is made twice, or asks for nothing."""
    found: dict[str, object] = {}
    for part in text.split(","):
        name, value = _demand(part.strip())
        if name in found:
            raise ValueError(f'"{name}" is demanded twice')
        found[name] = value
    return Condition(**found)  # type: ignore[arg-type]


def _demand(text: str) -> tuple[str, object]:
    if (count := _COUNT.fullmatch(text)) is not None:
        return count[1], int(count[2])
    if (share := _SHARE.fullmatch(text)) is not None:
        ppm = parse_percent(f"{share[1]} %")
        if ppm:
            return "weight_ppm", ppm
    if (names := _NAMES.fullmatch(text)) is not None:
        listed = [name.strip() for name in names[1].split("+")]
        if all(is_id(name) for name in listed) and len(listed) <= limits.MAX_NAMED:
            return "named", frozenset(listed)
    raise ValueError(f'"{text}" is no demand: expected "parties>=N", "labs>=N", "weight>=55 %" or "with ID+ID"')


def format_condition(condition: Condition) -> str:
    """Write a conjunction that parse_condition reads back; "nothing" where it asks for nothing."""
    parts = [f"{name}>={getattr(condition, name)}" for name in ("parties", "labs") if getattr(condition, name)]
    if condition.weight_ppm:
        parts.append(f"weight>={format_percent(condition.weight_ppm)}")
    if condition.named:
        parts.append(f"with {'+'.join(sorted(condition.named))}")
    return ", ".join(parts) or "nothing"


def format_pledge(alternatives: Alternatives) -> str:
    """Say on what a pledge depends."""
    if not alternatives:
        return "in any case"
    return "if " + " or ".join(format_condition(condition) for condition in alternatives)


def format_measure(measure: Growth | CapLimits) -> Iterator[str]:
    """Yield what windows are held to: a sentence for a growth limit, one for each cap."""
    if isinstance(measure, CapLimits):
        yield from (describe_cap(cap).removesuffix(".") for cap in measure.caps)
        return
    share, window = format_percent(measure.growth_ppm), count_of(measure.window, "period")
    carried = [
        f"up to {format_percent(measure.banking_ppm)} of it is banked" if measure.banking_ppm else "",
        f"{format_percent(measure.debt_ppm)} of an overrun is owed" if measure.debt_ppm else "",
    ]
    yield "; ".join(
        [
            f"compute of {window} at most {share} over the {count_of(measure.baseline, 'period')} before, and "
            f"{exact_flop(measure.floor_gflop)} in any case",
            *filter(None, carried),
        ]
    )
