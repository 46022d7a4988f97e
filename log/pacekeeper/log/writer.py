"""The single writer: it queues submissions, lets the sequencer decide, and commits in groups, in one thread of its own.

There is no timer between arrival and commit: while one commit runs, whatever arrives queues up and is the next group.
The queue is bounded, as a whole and for each caller, so that a flood is shed and reads go on.

After any failure of a commit the writer is broken for good: the replay's state in memory may be ahead of the disk.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from pacekeeper.log.certificates import owing_labs
from pacekeeper.log.clock import Clock
from pacekeeper.log.sequencer import Conditions, Outcome, Plan, Sequenced, Sequencer
from pacekeeper.log.store.port import Batch, Head, Store
from pacekeeper.protocol import limits
from pacekeeper.protocol.documents.model import Agreement
from pacekeeper.protocol.envelope import parse_entry
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.merkle import Frontier, hash_leaves

MAX_QUEUED: Final = 16_384  # submissions waiting: about a second's work
MAX_QUEUED_BYTES: Final = 67_108_864
MAX_QUEUED_PER_CALLER: Final = 4_096  # one caller cannot crowd out the others
GROUP: Final = 512  # submissions in one commit, and GROUP_BYTES of them: what one step may take stays below a tick
GROUP_BYTES: Final = limits.MAX_SUBMIT_BYTES


@dataclass(slots=True)
class _Request:
    caller: str
    envelopes: Sequence[bytes]
    size: int
    answer: asyncio.Future[list[Outcome]]


class Committed(NamedTuple):
    """What a step has done: the head after it and the time of the first new entry, None if nothing was committed.

    agreement: the one in force at that head. owing: labs that have left it and may still account for what they owe.
    """

    head: Head | None
    first_time_ms: int
    plan: Plan
    agreement: Agreement
    owing: frozenset[str] = frozenset()


class Writer:
    """submit() from the event loop; run() is its task. conditions, committed and room are called in the event loop."""

    def __init__(
        self,
        store: Store,
        sequencer: Sequencer,
        frontier: Frontier,
        clock: Clock,
        conditions: Callable[[], Conditions],
        committed: Callable[[Committed], None],
        room: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store = store
        self._sequencer = sequencer
        self._frontier = frontier
        self._clock = clock
        self._conditions = conditions
        self._committed = committed
        self._room = room
        self._head = store.head()
        self._queue: deque[_Request] = deque()
        self._queued: Counter[str] = Counter()
        self._queued_bytes = 0
        self._wake = asyncio.Event()
        self._agreement = sequencer.state.agreement
        self._owing = owing_labs(sequencer.state)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._stopping = False
        self.halted: Refused | None = None

    async def submit(self, caller: str, envelopes: Sequence[bytes]) -> list[Outcome]:
        """Return one outcome for each envelope once all that were sequenced are durable. Refused(overloaded, ...)."""
        return await self.enqueue(caller, envelopes)

    def enqueue(self, caller: str, envelopes: Sequence[bytes]) -> asyncio.Future[list[Outcome]]:
        """As submit, but return as soon as the envelopes are queued; what was queued before comes before them."""
        size = sum(map(len, envelopes))
        if self._stopping:
            raise Refused(Code.OVERLOADED, "the log is stopping")
        # SPEC log-16: when too much waits, a submission MUST be shed before anything of it is sequenced.
        if (
            self._queued.total() + len(envelopes) > MAX_QUEUED
            or self._queued_bytes + size > MAX_QUEUED_BYTES
            or self._queued[caller] + len(envelopes) > MAX_QUEUED_PER_CALLER
        ):
            raise Refused(Code.OVERLOADED, "too many submissions are waiting; try again later")
        if not self._room():
            raise Refused(Code.OVERLOADED, "the log's disk is nearly full; nothing is taken until space is made")
        request = _Request(caller, envelopes, size, asyncio.get_running_loop().create_future())
        self._queue.append(request)
        self._queued[caller] += len(envelopes)
        self._queued_bytes += size
        self._wake.set()
        return request.answer

    def nudge(self) -> None:
        """Have the conditions looked at again now."""
        self._wake.set()

    async def run(self) -> None:
        """Step until cancelled. Raises Refused(unsafe-state) when a commit has failed; nothing is sequenced after."""
        loop = asyncio.get_running_loop()
        group: list[_Request] = []
        try:
            while not self._stopping:
                await self._work_or_wake()
                self._wake.clear()
                group = self._take_group()
                await self._answer(loop, group)
        except Refused as refused:
            self._stopping = True
            for request in (*group, *self._queue):
                if not request.answer.done():
                    request.answer.set_exception(Refused(refused.code, "the log has stopped: its state is unsafe"))
            raise
        finally:
            self._stopping = True
            # A commit under way ends before the store is closed; its callers are gone and will ask again.
            self._thread.shutdown(wait=True)

    async def _work_or_wake(self) -> None:
        """Wait for a submission, a nudge or the sequencer's next deadline."""
        if self._queue:
            return
        wait_ms = self._sequencer.wake_ms() - self._clock.now_ms()
        if self.halted is not None:
            wait_ms = max(wait_ms, 250)  # a halt ends by a nudge or by the clock; this is for the clock
        try:
            async with asyncio.timeout(max(0, wait_ms) / 1000):
                await self._wake.wait()
        except TimeoutError:
            return

    def _take_group(self) -> list[_Request]:
        group: list[_Request] = []
        count = size = 0
        while self._queue and count < GROUP and size < GROUP_BYTES:
            request = self._queue.popleft()
            group.append(request)
            count += len(request.envelopes)
            size += request.size
            self._queued[request.caller] -= len(request.envelopes)
            self._queued_bytes -= request.size
            if not self._queued[request.caller]:
                del self._queued[request.caller]
        return group

    async def _answer(self, loop: asyncio.AbstractEventLoop, group: list[_Request]) -> None:
        envelopes = [data for request in group for data in request.envelopes]
        conditions = replace(self._conditions(), full=not self._room())
        done = await loop.run_in_executor(self._thread, self._step, envelopes, conditions)
        self.halted = done.plan.halted
        if done.head is not None or done.plan.conflicts:
            self._committed(done)
        outcomes = iter(done.plan.outcomes)
        for request in group:
            answer = [next(outcomes) for _ in request.envelopes]
            if not request.answer.done():
                request.answer.set_result(answer)

    def _step(self, envelopes: Sequence[bytes], conditions: Conditions) -> Committed:
        """Decide and commit, in the writer's thread. SPEC log-2: an outcome MUST NOT be told before it is durable."""
        plan = self._sequencer.step(envelopes, self._clock.now_ms(), conditions)
        head: Head | None = None
        if plan.entries:
            self._frontier.extend(hash_leaves(plan.entries))
            head = Head(self._frontier.size, self._frontier.root(), plan.time_ms)
            self._store.commit(Batch(plan.first_index, plan.entries, plan.ids, plan.slots, head), self._head)
            self._head = head
        self._add_times(plan)
        state = self._sequencer.state
        if state.agreement is not self._agreement or self._owing:
            self._agreement, self._owing = state.agreement, owing_labs(state)
        return Committed(head, plan.time_ms, plan, self._agreement, self._owing)

    def _add_times(self, plan: Plan) -> None:
        """Give duplicates the log time that their entry has."""
        for position, outcome in enumerate(plan.outcomes):
            if isinstance(outcome, Sequenced) and outcome.duplicate and outcome.index < plan.first_index:
                entry = parse_entry(self._store.read(outcome.index, outcome.index + 1, 1)[0])
                plan.outcomes[position] = outcome._replace(time_ms=entry.sequenced_at_ms)
