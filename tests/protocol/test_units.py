"""Quantities as documents write them: exact, with their unit, and in one spelling of digits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacekeeper.protocol.limits import MAX_TIME_MS
from pacekeeper.protocol.units import (
    flop_to_unit,
    format_duration,
    format_flop,
    format_time,
    parse_duration,
    parse_flop,
    parse_percent,
    parse_rate,
    parse_time,
)

GOOD: list[tuple[Callable[[str], int], str, int]] = [
    (parse_flop, "1e24 FLOP", 10**15),
    (parse_flop, "2.5e24 FLOP", 25 * 10**14),
    (parse_flop, "0 FLOP", 0),
    (parse_flop, "1000000000 FLOP", 1),
    (parse_rate, "990e12 FLOP/s", 990_000),
    (parse_percent, "5 %", 50_000),
    (parse_percent, "0.0001 %", 1),
    (parse_percent, "100 %", 1_000_000),
    (parse_duration, "30 d", 2_592_000_000),
    (parse_duration, "250 ms", 250),
    (parse_time, "1970-01-01T00:00:00Z", 0),
    (parse_time, "2026-01-01T00:00:00Z", 1_767_225_600_000),
    (parse_time, "2026-01-01T23:59:59.5Z", 1_767_311_999_500),
    (parse_time, "9999-12-31T23:59:59.999Z", MAX_TIME_MS),
]
BAD: list[tuple[Callable[[str], int], str]] = [
    *(
        (parse_flop, bad)
        for bad in ("1e24", "1e24 flop", "1e24  FLOP", "1e24 FLOP\n", "-1 FLOP", "1.5 FLOP", "٣e9 FLOP")
    ),
    *(
        (parse_flop, bad)
        for bad in ("1e30 FLOP", "1E24 FLOP", "1e+24 FLOP", "1000000000.000000000001 FLOP", "nan FLOP")
    ),
    *((parse_rate, bad) for bad in ("1e15 FLOP", "1 FLOP/s")),
    *((parse_percent, bad) for bad in ("5", "5%", "101 %", "100.0001 %", "0.00001 %", "٥ %", "5 %\n")),
    *((parse_duration, bad) for bad in ("1.5 h", "1 week", "1", "h", "1 h ", "٣ h")),
    *(
        (parse_time, bad)
        for bad in ("2026-01-01", "2026-01-01T00:00:00", "2026-01-01T00:00:00+00:00", "2026-13-01T00:00:00Z")
    ),
    # Whether these are times depends on who reads them, and on their version.
    *((parse_time, bad) for bad in ("2026-01-01T24:00:00Z", "2026-06-30T23:59:60Z", "2026-01-01t00:00:00z")),
]


@pytest.mark.parametrize(("parse", "text", "value"), GOOD)
def test_quantities_are_read_exactly(parse: Callable[[str], int], text: str, value: int) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(("parse", "text"), BAD)
def test_what_is_not_a_quantity_is_refused(parse: Callable[[str], int], text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|whole|over|month|range"):
        parse(text)


@given(st.integers(0, 10**15 - 1))
def test_compute_reads_back(gflop: int) -> None:
    assert parse_flop(f"{gflop}e9 FLOP") == gflop
    assert parse_flop(f"{gflop}.{gflop % 1000:03}e12 FLOP") == 1000 * gflop + gflop % 1000


@given(st.integers(0, MAX_TIME_MS))
def test_times_read_back(time_ms: int) -> None:
    assert parse_time(format_time(time_ms)) == time_ms


@given(st.integers(0, 10**12 - 1))
def test_durations_read_back(duration_ms: int) -> None:
    assert parse_duration(format_duration(duration_ms)) == duration_ms


def test_what_no_calendar_holds_is_still_written() -> None:
    """A hostile log's deadline lies after the year 9999; a report about it must not fail."""
    assert format_time(MAX_TIME_MS + 1) == "253402300800000 ms after 1970"
    assert format_time(2**64) == "18446744073709551616 ms after 1970"


@given(st.integers(0, 10**40))
def test_operations_round_up_to_the_unit(flop: int) -> None:
    """SPEC compute-1: nothing vanishes."""
    assert flop <= flop_to_unit(flop) * 10**9 < flop + 10**9


def test_compute_is_shown_shortly() -> None:
    shown = {gflop: format_flop(gflop) for gflop in (0, 1, 10**15, 1_234_567, 9_999_999)}
    assert list(shown.values()) == ["0 FLOP", "1e9 FLOP", "1e24 FLOP", "1.235e15 FLOP", "1e16 FLOP"]
