"""Changes: tells waiting jobs that what their orders follow from has changed, so that they ask at once.

A job waits with the revision that it knows and is answered when there is another one. The answer orders nothing: orders
come with reports only, so that what a job was given is never told twice (node-31). What tightens by the clock alone was
told ahead (plans.py), and what tightens by use is told with the report of that use.

Example: revision = await changes.wait(job, after=0); ...; changes.look()   # whoever waited is answered
"""

from __future__ import annotations

import asyncio
from typing import Final

from pacekeeper.node.clock import Clock
from pacekeeper.node.reader import Reader
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.limits import MAX_TIME_MS

MAX_WAITING: Final = 256  # calls at one time, each with a connection: a job without one asks once a second
WAIT_S: Final = 25.0  # then a call is answered in any case, so that none outlives its job for long


class Changes:
    """The revision of what orders follow from, and the jobs that wait for the next one."""

    def __init__(self, reader: Reader, lab: str, clock: Clock) -> None:
        self._reader = reader
        self._lab = lab
        self._clock = clock
        self._revision = clock.now_ms()  # another one after each start
        self._outlook: object = None
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._closed = False

    async def run(self) -> None:
        """Look whenever the reader has read something, for ever."""
        while True:
            await self._reader.news.wait()
            self._reader.news.clear()
            self.look()

    def look(self) -> None:
        """Answer all that wait if what binds the lab is not what it was."""
        outlook = self._read()
        if outlook != self._outlook:
            self._outlook = outlook
            self._revision += 1
            self._answer_all()

    async def wait(self, job: str, after: int) -> int:
        """Return the revision once it is not the one that the job knows, or after WAIT_S. Refused(overloaded).

        SPEC node-38: calls that wait MUST be bounded in number and time, one for each job, and never keep a report out.
        """
        earlier = self._waiting.pop(job, None)
        if earlier is not None and not earlier.done():
            earlier.set_result(None)
        if after != self._revision or self._closed:
            return self._revision
        if len(self._waiting) >= MAX_WAITING:
            raise Refused(Code.OVERLOADED, f"{MAX_WAITING} jobs wait already; ask by reporting")
        place = self._waiting[job] = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait((place,), timeout=WAIT_S)
        finally:
            if self._waiting.get(job) is place:
                del self._waiting[job]
        return self._revision

    def close(self) -> None:
        """Answer all that wait, and let nobody wait any more."""
        self._closed = True
        self._answer_all()

    def _answer_all(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for place in waiting.values():
            if not place.done():
                place.set_result(None)

    def _read(self) -> object:
        reader = self._reader
        if reader.state is None or not reader.caught_up:
            return None
        registry = reader.state.commitments
        spans = registry.spans(self._lab, reader.log_ms, MAX_TIME_MS)
        return spans, registry.constraints_on(self._lab, reader.log_ms).lease
