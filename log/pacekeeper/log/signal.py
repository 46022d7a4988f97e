"""A signal that wakes everyone who waits, any number of times: asyncio's Event has to be cleared, and then misses some.

waiting = signal.arm()      # before looking
if not what_i_need():
    await waiting.wait()    # woken by anything that came after arm()
"""

from __future__ import annotations

import asyncio


class Signal:
    """See the module. For one event loop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def arm(self) -> asyncio.Event:
        """Return an event that the next notify() sets."""
        return self._event

    def notify(self) -> None:
        """Wake everyone who has armed so far."""
        event, self._event = self._event, asyncio.Event()
        event.set()
