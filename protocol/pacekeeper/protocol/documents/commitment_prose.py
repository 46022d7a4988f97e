"""What an article says in words against what the terms beside it say in numbers.

A quantity in prose ("30 days", "10^24 FLOP", "55 percent", "four Parties", "1 March 2027") contradicts the terms of its
article if these have quantities of the same sort and none of them equals it. A year is 365 or 366 days and a month 28
to 31, as treaties count them. What has no unit, and what the article's terms do not speak of, is for readers to judge.

Example: "holds for 30 days" above `wind_down = "6 h"` is refused at the line of the prose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Context, Decimal
from typing import Final, NamedTuple

from pacekeeper.protocol import units
from pacekeeper.protocol.documents.blocks import Article, Document, DocumentError
from pacekeeper.protocol.documents.tables import Table

_EXACT: Final = Context(prec=60)
_WORDS: Final = {
    "one": 1,
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
    "eleven": 11,
    "twelve": 12,
    "thirteen": 13,
    "fourteen": 14,
    "fifteen": 15,
    "sixteen": 16,
    "seventeen": 17,
    "eighteen": 18,
    "nineteen": 19,
    "twenty": 20,
}
_MONTHS: Final = {
    "January": 1,
    "February": 2,
    "March": 3,
    "April": 4,
    "May": 5,
    "June": 6,
    "July": 7,
    "August": 8,
    "September": 9,
    "October": 10,
    "November": 11,
    "December": 12,
}
_DAY_MS: Final = 86_400_000
_MAX_DIGITS: Final = 40  # beyond any quantity of the protocol; int() of a huge exponent would take for ever
_SPANS: Final = {  # shortest and longest of each unit, in milliseconds
    "second": (1_000, 1_000),
    "minute": (60_000, 60_000),
    "hour": (3_600_000, 3_600_000),
    "day": (_DAY_MS, _DAY_MS),
    "week": (7 * _DAY_MS, 7 * _DAY_MS),
    "month": (28 * _DAY_MS, 31 * _DAY_MS),
    "year": (365 * _DAY_MS, 366 * _DAY_MS),
}
_NUMBER: Final = rf"(?P<number>[0-9]{{1,20}}(?:\.[0-9]{{1,12}})?(?:e[0-9]{{1,3}})?|(?ai:{'|'.join(_WORDS)}))"
_POWER: Final = r"(?P<mantissa>[0-9]{1,20}(?:\.[0-9]{1,12})? ?[x×] ?)?10\^(?P<exponent>[0-9]{1,2})"
_COUNTED: Final = {"par": "parties", "sta": "parties", "lab": "labs", "fam": "families", "rep": "reports"}
_QUANTITY: Final = re.compile(
    rf"(?:{_POWER}|\b{_NUMBER})[ -](?:(?P<rate>FLOP/s|FLOP per second)|(?P<flop>FLOP\b)"
    r"|(?P<share>%|percent\b|per cent\b)|(?P<span>second|minute|hour|day|week|month|year)s?\b"
    r"|(?ai:(?P<counted>party|parties|states?|labs?|family|families|reports?)\b)|(?P<periods>periods?\b))"
)
_DATE: Final = re.compile(rf"\b(?P<day>[0-9]{{1,2}}) (?P<month>{'|'.join(_MONTHS)}) (?P<year>[0-9]{{4}})\b")


class _Quantity(NamedTuple):
    """A quantity in prose: its sort, and the least and greatest number that would be the same."""

    sort: str
    low: int
    high: int
    text: str


def check_prose(document: Document, tables: list[Table]) -> Iterator[DocumentError]:
    """Yield a fault for each quantity of an article's prose that contradicts the terms beside it.

    SPEC commitments-15: a quantity in an article's prose MUST be that of a term beside it, if one of its sort is.
    """
    inside = {
        number
        for block in document.blocks
        for number in range(block.first_line - 1, block.first_line + len(block.lines) + 1)
    }
    ends = [*(article.line for article in document.articles[1:]), len(document.lines) + 1]
    for article, end in zip(document.articles, ends, strict=True):
        stated = _stated(article, end, tables)
        for line in range(article.line + 1, end):
            if line not in inside:
                yield from _contradictions(line, document.lines[line - 1], stated)


def _contradictions(line: int, text: str, stated: dict[str, set[int]]) -> Iterator[DocumentError]:
    for found in _quantities(text):
        values = stated.get(found.sort, set())
        if values and not any(found.low <= value <= found.high for value in values):
            yield DocumentError(line, f'"{found.text}" is in the text, and no term of this article says so')


def _stated(article: Article, end: int, tables: list[Table]) -> dict[str, set[int]]:
    """Return what the terms of an article say: sort of quantity -> numbers."""
    stated: dict[str, set[int]] = {}
    for table in [part for owner in tables for part in (owner, *owner.parts.values())]:
        if not article.line < table.line < end:
            continue
        for key in table.lines:
            value = table.values[key]
            sort, number = _term(key, value)
            if sort:
                stated.setdefault(sort, set()).add(number)
    return stated


def _term(key: str, value: object) -> tuple[str, int]:
    if isinstance(value, int):
        return (key, value) if key in ("parties", "labs", "families", "reports") else ("", 0)
    if not isinstance(value, str):
        return "", 0
    for sort, parse in (
        ("flop", units.parse_flop),
        ("rate", units.parse_rate),
        ("share", units.parse_percent),
        ("span", units.parse_duration),
        ("date", lambda text: units.parse_time(text) // _DAY_MS),
        ("periods", lambda text: int(text.removesuffix("s").removesuffix(" period"))),
    ):
        try:
            return sort, parse(value)
        except ValueError:
            continue
    return "", 0


def _quantities(text: str) -> Iterator[_Quantity]:
    for match in _DATE.finditer(text):
        moment = f"{match['year']}-{_MONTHS[match['month']]:02}-{int(match['day']):02}T00:00:00Z"
        day = _day(moment)
        yield _Quantity("date", day, day, match[0])
    for match in _QUANTITY.finditer(text):
        number = _number(match)
        if match["span"]:
            low, high = _SPANS[match["span"]]
            yield _Quantity(
                "span", _round(_EXACT.multiply(number, low)), _round(_EXACT.multiply(number, high)), match[0]
            )
        elif match["counted"]:
            count = _round(number)
            yield _Quantity(_COUNTED[match["counted"].lower()[:3]], count, count, match[0])
        else:
            sort = next(name for name in ("rate", "flop", "share", "periods") if match[name])
            scale = {"rate": Decimal("1e-9"), "flop": Decimal("1e-9"), "share": Decimal(10_000)}.get(sort, Decimal(1))
            scaled = _round(_EXACT.multiply(number, scale))
            yield _Quantity(sort, scaled, scaled, match[0])


def _day(moment: str) -> int:
    """The day of a date, counted from 1970; -1 when its month has no such day."""
    try:
        return units.parse_time(moment) // _DAY_MS
    except ValueError:
        return -1


def _number(match: re.Match[str]) -> Decimal:
    if match["exponent"]:
        mantissa = Decimal((match["mantissa"] or "1").rstrip("x× ") or "1")
        return _EXACT.multiply(mantissa, Decimal(f"1e{match['exponent']}"))
    word = match["number"].lower()
    return Decimal(_WORDS[word]) if word in _WORDS else Decimal(word)


def _round(value: Decimal) -> int:
    """The whole number below a quantity; -1 for one so large that no term could state it."""
    return int(value) if value.adjusted() < _MAX_DIGITS else -1
