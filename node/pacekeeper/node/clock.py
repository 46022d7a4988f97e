"""The clock port: the only place where the daemon learns the time, so that a test can own it."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for periods, monotonic time for intervals, and a way to wait."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, UTC. May step when the machine's clock is set."""

    def monotonic_ms(self) -> int:
        """Milliseconds that never step; they stand still while the machine sleeps."""

    async def sleep(self, duration_ms: int) -> None:
        """Return after that long."""


class SystemClock:
    """The machine's own clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    async def sleep(self, duration_ms: int) -> None:
        await asyncio.sleep(duration_ms / 1000)
