"""From commit to publication: one task that proposes a checkpoint, waits for its quorum, publishes, proposes the next.

Nothing here waits on a timer: a commit, a cosignature or a refusal wakes the task. While a candidate is out, commits
collect; when it is published the next candidate is the latest head at once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

import structlog

from pacekeeper.log.clock import Clock
from pacekeeper.log.published import PublishedTree
from pacekeeper.log.publisher import Publisher
from pacekeeper.log.sequencer import Conditions
from pacekeeper.log.signal import Signal
from pacekeeper.log.store.port import Head, Store
from pacekeeper.log.witnesses import Counted, Proposal, Witnesses
from pacekeeper.log.writer import Committed
from pacekeeper.protocol.envelope import identity, pae, parse_entry
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.v1 import log_pb2

_P = ParamSpec("_P")
_T = TypeVar("_T")

MAX_CONFLICTS: Final = 256  # kept for verifiers that are slow or come later; further ones push out the oldest

_log = structlog.get_logger(__name__)


class Witnessing:
    """Owns the published tree. All methods are for the event loop; `nudge` has the writer look at the conditions."""

    def __init__(
        self,
        store: Store,
        publisher: Publisher,
        witnesses: Witnesses,
        clock: Clock,
        published: PublishedTree | None,
        oldest_unpublished_ms: int | None,
        *,
        unconfirmed: bool = False,
        room: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self.witnesses = witnesses
        self._clock = clock
        self.published = published
        self.head = store.head()
        self._oldest_ms = oldest_unpublished_ms
        self._unconfirmed = unconfirmed
        self._room = room
        self._refresh_wanted = False
        self._refreshed_ms = -witnesses.tolerance_ms
        self._refresh_timer: asyncio.TimerHandle | None = None
        self._late = False
        self._replace_next = False  # the next commit's head becomes the candidate, whatever candidate is out
        self._replace = False
        self._wake = asyncio.Event()
        self._wake.set()
        self._conflict_ids: OrderedDict[bytes, None] = OrderedDict()
        self.conflicts: deque[tuple[int, log_pb2.ConflictingEnvelope]] = deque(maxlen=MAX_CONFLICTS)
        self.conflict_count = 0
        # A thread of its own: readers that crowd the common ones must not delay a publication.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="publisher")
        self.changed = Signal()
        self.nudge: Callable[[], None] = lambda: None
        self.owing: frozenset[str] = frozenset()  # labs that have left, and still account for what they owe
        self.membership_changed: Callable[[], None] = lambda: None  # whose verifiers and labs may call

    def conditions(self) -> Conditions:
        """Return what the sequencer must know at this moment."""
        now_ms, monotonic_ms = self._clock.now_ms(), self._clock.monotonic_ms()
        witnesses = self.witnesses
        refresh, self._refresh_wanted = self._refresh_wanted, False
        disagree = witnesses.clocks_disagree(now_ms, monotonic_ms)
        return Conditions(self._oldest_ms, disagree, witnesses.behind(), self._unconfirmed, refresh)

    def committed(self, done: Committed) -> None:
        """Take note of a commit and of conflicts that the sequencer has seen."""
        if done.head is not None:
            self.head = done.head
            if done.agreement is not self.witnesses.coming or done.owing != self.owing:
                self.owing = done.owing
                self.witnesses.advance(done.agreement)
                self.membership_changed()
            if self._oldest_ms is None:
                self._oldest_ms = done.first_time_ms
            self._replace, self._replace_next = self._replace or self._replace_next, False
            self._wake.set()
        for conflict in done.plan.conflicts:
            self._relay(conflict)

    def _relay(self, conflict: log_pb2.ConflictingEnvelope) -> None:
        """Hand a conflict to the streams of all verifiers, once for each statement."""
        statement_id = identity(pae(conflict.second.payload_type, conflict.second.payload))
        if statement_id in self._conflict_ids:
            return
        self._conflict_ids[statement_id] = None
        if len(self._conflict_ids) > 16 * MAX_CONFLICTS:
            self._conflict_ids.popitem(last=False)
        self.conflict_count += 1
        self.conflicts.append((self.conflict_count, conflict))
        self.changed.notify()

    def count(self, party: str, lines: bytes) -> None:
        """Take a verifier's cosignature. Raises Refused as Witnesses.count."""
        counted = self.witnesses.count(party, lines, self._clock.now_ms())
        if counted is Counted.LATE:
            self._late = True
        if counted is not Counted.NOTHING:
            self._wake.set()

    def refused(self, party: str, refusal: log_pb2.Refusal) -> None:
        """Take a verifier's refusal of the candidate: if it is for the head's age, a Tick makes an acceptable one.

        At most one such Tick within the tolerance: a verifier with a wrong clock cannot fill the log with ticks.
        """
        _log.warning("a verifier does not cosign", party=party, code=refusal.code[:64])
        if self.witnesses.candidate is None or refusal.code != Code.CLOCK_DISAGREES:
            return
        self._replace_next = True
        if self._refresh_timer is None:
            wait_ms = self._refreshed_ms + self.witnesses.tolerance_ms - self._clock.monotonic_ms()
            self._refresh_timer = asyncio.get_running_loop().call_later(max(0, wait_ms) / 1000, self._refresh)

    def _refresh(self) -> None:
        self._refresh_timer = None
        if self.witnesses.candidate is not None and self._replace_next and self.witnesses.quorum_connected():
            self._refreshed_ms = self._clock.monotonic_ms()
            self._refresh_wanted = True
            self.nudge()

    def attach(self, party: str, size: int) -> None:
        """A verifier has connected, holding that many entries. Refused(unsafe-state) if that is more than there are."""
        witness = self.witnesses.of.get(party)
        if witness is None:
            raise Refused(Code.WRONG_IDENTITY, "this party is not of the agreement in force")
        witness.ahead = size > (self.head.size if self.head else 0)
        if witness.ahead:
            self._wake.set()
            self.nudge()
            raise Refused(Code.UNSAFE_STATE, "the log has fewer entries than this verifier says it holds")
        witness.connected = True
        if self._unconfirmed and self.witnesses.quorum_connected():
            self._unconfirmed = False
            self.nudge()
        _log.info("verifier connected", party=party, size=size)

    def detach(self, party: str) -> None:
        """A verifier's stream has ended."""
        witness = self.witnesses.of.get(party)
        if witness is not None:
            witness.connected = False
        _log.info("verifier disconnected", party=party)
        self.nudge()

    def to_push(self, party: str) -> Proposal | None:
        """Return the checkpoint that this verifier is to cosign, None if there is none that it could.

        The published one is worth asking for only while its head is new enough for a cosignature.
        """
        current = self.witnesses.current()
        if current is None or not current.asks(party):
            return None
        stale = current.head_ms < self._clock.now_ms() - self.witnesses.tolerance_ms
        return None if stale and self.witnesses.candidate is None else current

    def heard(self, party: str, clock_ms: int) -> None:
        """Take a verifier's clock; the writer looks again if that ends or begins a halt."""
        now_ms, monotonic_ms = self._clock.now_ms(), self._clock.monotonic_ms()
        before = self.witnesses.clocks_disagree(now_ms, monotonic_ms)
        self.witnesses.heard(party, clock_ms, monotonic_ms)
        if self.witnesses.clocks_disagree(now_ms, monotonic_ms) != before:
            self.nudge()

    async def wait_published(self, size: int, timeout_s: float) -> PublishedTree:
        """Return the published tree once it has at least this size. Refused(not-witnessed) when that takes too long."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    changed = self.changed.arm()
                    if self.published is not None and self.published.size >= size:
                        return self.published
                    await changed.wait()
        except TimeoutError:
            raise Refused(
                Code.NOT_WITNESSED, "sequenced and durable, but no quorum of verifiers has cosigned it in time"
            ) from None

    async def run(self) -> None:
        """Propose and publish until cancelled. Raises Refused(unsafe-state) when the log must stop."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                if self.witnesses.behind():
                    # SPEC log-28: when more verifiers than may lie hold more entries than the log, it MUST stop.
                    raise Refused(
                        Code.UNSAFE_STATE, "verifiers hold more entries than this log: it was restored from a backup"
                    )
                if not self._room():
                    continue  # the first commit after there is room again wakes this task
                if self.witnesses.has_quorum():
                    await self._publish()
                await self._propose()
                if self._late and not self.witnesses.has_quorum():
                    await self._add_late()
        finally:
            if self._refresh_timer is not None:
                self._refresh_timer.cancel()
            self._thread.shutdown(wait=True)

    async def _in_thread(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        assert not kwargs
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    async def _publish(self) -> None:
        before = self.witnesses.agreements()
        proposal = self.witnesses.publish()
        self._late = self._replace = self._replace_next = False
        transition = proposal.is_transition
        self.published = await self._in_thread(self._publisher.publish, proposal.note(), transition)
        if transition:
            _log.info("the verifiers have changed", size=proposal.size, parties=sorted(self.witnesses.of))
        if len(before) > 1:  # else the one agreement that counted still does
            self.membership_changed()
        size = proposal.size
        self._oldest_ms = await self._in_thread(oldest_unpublished_ms, self._store, size)
        self.changed.notify()
        self.nudge()

    async def _propose(self) -> None:
        """Make the latest head the candidate, if none is out or a new one was asked for."""
        head = self.head
        if head is None or (self.witnesses.candidate is not None and not self._replace):
            return
        if self.published is not None and head.size <= self.published.size:
            return
        agreement = self.witnesses.coming
        note = await self._in_thread(self._publisher.prepare, head)
        self._replace = False
        self.witnesses.propose(note, head, agreement)
        self.changed.notify()

    async def _add_late(self) -> None:
        published = self.witnesses.published
        assert published is not None
        assert self.published is not None
        self._late = False
        self.published = await self._in_thread(self._publisher.republish, self.published, published.note())
        self.changed.notify()


def oldest_unpublished_ms(store: Store, published_size: int) -> int | None:
    """Return the log time of the first entry that is not published, None if there is none."""
    head: Head | None = store.head()
    if head is None or head.size <= published_size:
        return None
    return parse_entry(store.read(published_size, published_size + 1, 1)[0]).sequenced_at_ms
