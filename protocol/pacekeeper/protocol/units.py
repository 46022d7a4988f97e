"""Units: compute in gigaFLOP, time in milliseconds, shares in parts per million.

A compute figure is an unsigned 64-bit integer of gigaFLOP (10^9 floating-point operations, not a rate; a
multiply-add counts two). Sums are unbounded integers. Documents write quantities with their unit and this module
reads them exactly, without floats: parse_flop("1e24 FLOP") == 10**15.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Context, Decimal, Inexact
from typing import Final

from pacekeeper.protocol.limits import MAX_TIME_MS

FLOP_PER_UNIT: Final = 10**9
PPM: Final = 1_000_000
UINT64_MAX: Final = 2**64 - 1

_NUMBER = r"([0-9]{1,20}(?:\.[0-9]{1,12})?(?:e[0-9]{1,2})?)"  # at most 32 digits, all of 64 bits among them
_FLOP = re.compile(rf"{_NUMBER} FLOP")
_RATE = re.compile(rf"{_NUMBER} FLOP/s")
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,4})?) %")
_DURATION = re.compile(r"([0-9]{1,12}) (ms|s|min|h|d)")
# An own context: a caller that changed the ambient one must not change what a document says.
_EXACT: Final = Context(prec=60, traps=[Inexact])
_MS: Final = {"ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,3})?Z")


def parse_flop(text: str) -> int:
    """Read "1e24 FLOP" as gigaFLOP. ValueError if malformed, not a whole number of gigaFLOP, or over 64 bits."""
    match = _FLOP.fullmatch(text)
    if match is None:
        raise ValueError(f'expected a quantity such as "1e24 FLOP", got "{text}"')
    return _whole(_EXACT.divide(Decimal(match[1]), FLOP_PER_UNIT), "gigaFLOP")


def parse_rate(text: str) -> int:
    """Read "990e12 FLOP/s" as gigaFLOP per second. ValueError as parse_flop."""
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(f'expected a rate such as "1e15 FLOP/s", got "{text}"')
    return _whole(_EXACT.divide(Decimal(match[1]), FLOP_PER_UNIT), "gigaFLOP per second")


def _whole(value: Decimal, unit: str) -> int:
    if value != value.to_integral_value():
        raise ValueError(f"not a whole number of {unit}")
    if value > UINT64_MAX:
        raise ValueError(f"over 2^64 - 1 {unit}")
    return int(value)


def parse_percent(text: str) -> int:
    """Read "5 %" as parts per million (50000). ValueError if malformed or over 100 %."""
    match = _PERCENT.fullmatch(text)
    if match is None:
        raise ValueError(f'expected a share such as "5 %", got "{text}"')
    ppm = int(Decimal(match[1]) * 10_000)
    if ppm > PPM:
        raise ValueError("over 100 %")
    return ppm


def format_percent(ppm: int) -> str:
    """Write parts per million as a share that parse_percent reads back: 50000 -> "5 %"."""
    whole, rest = divmod(ppm, 10_000)
    return f"{whole}.{rest:04d}".rstrip("0").rstrip(".") + " %"


def parse_duration(text: str) -> int:
    """Read "30 d", "6 h", "5 min", "10 s" or "250 ms" as milliseconds. ValueError if malformed."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f'expected a duration such as "30 d", "6 h", "10 s", got "{text}"')
    return int(match[1]) * _MS[match[2]]


def parse_time(text: str) -> int:
    """Read an RFC 3339 UTC time ("2026-01-01T00:00:00Z") as milliseconds since the Unix epoch. ValueError if not."""
    if _TIME.fullmatch(text) is None:
        raise ValueError(f'expected an RFC 3339 time in UTC such as "2026-01-01T00:00:00Z", got "{text}"')
    moment = datetime.fromisoformat(text)
    seconds = round((moment.replace(microsecond=0) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    return seconds * 1000 + moment.microsecond // 1000


def format_time(time_ms: int) -> str:
    """Write milliseconds since the epoch as RFC 3339 UTC, with milliseconds only where they are not zero.

    What no calendar holds, such as a deadline after the year 9999, is written as the number of milliseconds.
    """
    if not 0 <= time_ms <= MAX_TIME_MS:
        return f"{time_ms} ms after 1970"
    whole = datetime.fromtimestamp(time_ms // 1000, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")
    rest = time_ms % 1000
    return f"{whole}.{rest:03d}Z" if rest else f"{whole}Z"


def format_duration(duration_ms: int) -> str:
    """Write a duration in its largest whole unit: 3600000 -> "1 h"."""
    for unit in ("d", "h", "min", "s"):
        if duration_ms and duration_ms % _MS[unit] == 0:
            return f"{duration_ms // _MS[unit]} {unit}"
    return f"{duration_ms} ms"


def format_flop(gflop: int) -> str:
    """Write gigaFLOP as FLOP in scientific notation with at most four significant digits: 10**15 -> "1e24 FLOP"."""
    if gflop == 0:
        return "0 FLOP"
    digits = str(gflop * FLOP_PER_UNIT)
    exponent = len(digits) - 1
    mantissa = Decimal(digits).scaleb(-exponent).quantize(Decimal("0.001")).normalize()
    return f"{mantissa:f}e{exponent} FLOP" if mantissa < 10 else f"1e{exponent + 1} FLOP"


def flop_to_unit(flop: int) -> int:
    """Round floating-point operations up to gigaFLOP, so that nothing vanishes."""
    return -(-flop // FLOP_PER_UNIT)
