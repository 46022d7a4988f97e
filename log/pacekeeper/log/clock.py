"""The clocks of a log process, handed to everything that needs the time."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """now_ms: wall time since the Unix epoch; monotonic_ms: advances at the same rate and never jumps."""

    def now_ms(self) -> int: ...

    def monotonic_ms(self) -> int: ...


class SystemClock:
    """The machine's clocks. The monotonic one goes on through a suspension where the system offers such a clock."""

    def __init__(self) -> None:
        self._monotonic = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.clock_gettime_ns(self._monotonic) // 1_000_000
