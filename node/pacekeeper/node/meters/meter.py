"""The meter: three lines in a training loop.

    meter = Meter.open(run="run-1", initial_digest=digest, chips=8)
    meter.step(flop)        # after each optimizer step: two integer additions and a flag
    meter.close()

A Meter is a context manager. step() returns at once unless training is held or slowed down; then it returns when
training may go on. It belongs to one training thread of one process. What it has to say goes to the logger
"pacekeeper.meter".
"""

from __future__ import annotations

import atexit
import operator
import os
import secrets
from collections.abc import Callable
from types import TracebackType
from typing import Final

from pacekeeper.node.meters.client import GateClient
from pacekeeper.node.meters.courier import Courier, Recorder
from pacekeeper.node.meters.hold import HoldFlag
from pacekeeper.node.meters.listener import Listener
from pacekeeper.node.meters.opening import check_opening, first_contact
from pacekeeper.node.meters.record import JobClock, JobRecord, log
from pacekeeper.node.meters.settings import MeterSettings, resolve_settings
from pacekeeper.node.meters.spool import Opening, SpooledJob
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.limits import MAX_TEXT_CHARS
from pacekeeper.protocol.text import printable
from pacekeeper.v1 import statements_pb2

CHIP_TIME: Final[int] = statements_pb2.METHOD_CHIP_TIME
FRAMEWORK_COUNT: Final[int] = statements_pb2.METHOD_FRAMEWORK_COUNT
COUNTED_MARGIN_PPM: Final = 10_000  # matmuls are counted exactly; the margin is for what the convention leaves out


class Meter:
    """One job of one run, from open() to close()."""

    def __init__(
        self,
        opening: Opening,
        settings: MeterSettings,
        on_hold: Callable[[str], None] | None = None,
    ) -> None:
        """Open the job; see open(), which most callers want."""
        self._flop = 0
        self._steps = 0
        self._flag = HoldFlag()
        self._on_hold = on_hold
        self._process = os.getpid()
        self._settings = settings
        clock = JobClock()
        opened_ms = clock.now_ms()
        self._client = GateClient(settings.socket, settings.call_s)
        try:
            contact = first_contact(self._client, opening, settings)
            if opening.method == CHIP_TIME:
                opened_ms = clock.now_ms()  # nothing occupied a chip while it waited for leave to begin
            job = SpooledJob(opening, contact.calendar, opened_ms, opened_ms, False, (), (), ())
            try:
                self._record = JobRecord(job, clock, settings.spool, self._totals)
            except ValueError as error:
                raise Refused(Code.CLOCK_DISAGREES, f"this machine's clock cannot be right: {error}") from None
            self._record.write()
        except BaseException:
            self._client.close()
            raise
        self._courier = Courier(self._record, self._client, settings, self._flag, opened=contact.answered)
        self._recorder = Recorder(self._record, settings, self._flag, self._courier)
        self._listener = Listener(opening.job, settings, self._courier.wake)
        self._closed = False
        self._flag.order(contact.order)
        self._recorder.start()
        self._courier.start()
        self._listener.start()
        atexit.register(self.close)

    @classmethod
    def open(
        cls,
        run: str,
        *,
        initial_digest: bytes | None = None,
        from_checkpoint: bool = False,
        chips: int = 1,
        title: str = "",
        method: int = FRAMEWORK_COUNT,
        margin_ppm: int = COUNTED_MARGIN_PPM,
        on_hold: Callable[[str], None] | None = None,
        settings: MeterSettings | None = None,
    ) -> Meter:
        """Announce a job of a run and begin to account its chips' time; returns when the first step may be taken.

        initial_digest: digest of the parameters that training starts from (see digest.tensors_digest); None leaves
        the initial state unstated. from_checkpoint: those parameters come from a checkpoint, not from a fresh draw.
        on_hold: called with the reason, in the training thread, once for each hold, before it waits: save there. What
        it takes is in save_s.
        settings: else from the environment. ValueError for an argument that cannot be; Refused if the daemon refuses
        the job, or is away and left no calendar in the spool.
        """
        state = statements_pb2.INITIAL_STATE_UNSTATED
        if initial_digest is not None:
            state = statements_pb2.INITIAL_STATE_CHECKPOINT if from_checkpoint else statements_pb2.INITIAL_STATE_FRESH
        opening = Opening(
            job=secrets.token_hex(16),
            run=run,
            title=title,
            initial_state=state,
            initial_digest=initial_digest or b"",
            chips=chips,
            method=method,
            margin_ppm=margin_ppm,
        )
        check_opening(opening)
        meter = cls(opening, settings or resolve_settings(), on_hold)
        # SPEC metering-9: a held run takes no first step.
        try:
            meter._flag.wait()
        except BaseException:
            meter.close()
            raise
        return meter

    def step(self, flop: int) -> None:
        """Count one optimizer step of so many operations (MAC = 2); wait here while training is held or slowed down."""
        if type(flop) is not int or flop < 0:
            flop = _whole(flop)
        self._flop += flop
        self._steps += 1
        if self._flag.raised:
            self._attend()

    def add(self, flop: int) -> None:
        """Count operations outside a step: a forward pass, an evaluation. Never waits."""
        if type(flop) is not int or flop < 0:
            flop = _whole(flop)
        self._flop += flop

    def count_step(self) -> None:
        """Count one optimizer step whose operations were added already, without waiting; see wait()."""
        self._steps += 1

    def wait(self) -> None:
        """Return when training may go on. RuntimeError if the meter is closed, broken or another process's."""
        if self._flag.raised:
            self._attend()

    def checkpoint(self, digest: bytes) -> None:
        """Record that a model checkpoint with this tensor digest was saved now; it is in the spool on return."""
        if len(digest) != 32:
            raise ValueError("a checkpoint's digest is the 32 bytes of a SHA-256")
        if self._closed or self._flag.forked:
            self._flag.wait()
        self._record.checkpoint(bytes(digest))
        self._courier.wake()

    def note_uncounted(self, what: str) -> None:
        """Record that something could not be counted: from here on the job's count is incomplete.

        SPEC metering-16: what cannot be counted is named to the daemon and said aloud, never taken for nothing.
        SPEC metering-18: to be called before the step or the operations that it is about are counted.
        """
        sentence = printable(what)[:MAX_TEXT_CHARS]
        if self._record.note(sentence):
            log.warning("the count is incomplete: %s", sentence)
            self._courier.wake()

    def seen_still(self) -> None:
        """Say that all processes of the job were seen stopped, and without any work since the last time that this was
        said: that time occupies no chip. For a wrapper around a command; a loop's chips stay occupied."""
        self._record.seen_still()

    def moves(self) -> None:
        """Say that they go on, or may have: what came after the last seen_still() counts."""
        self._record.moves()

    @property
    def held(self) -> str | None:
        """Why training is held, or None."""
        return self._flag.ordered or self._flag.away

    @property
    def ordered(self) -> str | None:
        """The daemon's own reason to hold, or None; its absence does not count."""
        return self._flag.ordered

    @property
    def stand_by(self) -> bool:
        """Whether the daemon's hold may be over at any moment: it only has to find out."""
        return self._flag.stand_by

    @property
    def save_s(self) -> float:
        """How long a held job still has for saving its checkpoint, in seconds."""
        return self._flag.save_s

    @property
    def flop_per_s(self) -> int | None:
        """The rate at which training goes on, or None while nothing slows it down."""
        return self._flag.flop_per_s

    @property
    def planned(self) -> float | None:
        """In how many seconds training will be held or slowed down by what the daemon told ahead; None if not so far
        known."""
        return self._flag.advance()

    @property
    def complete(self) -> bool:
        """Whether everything seen could be counted."""
        return self._record.complete

    @property
    def flop(self) -> int:
        """Operations counted since open."""
        return self._flop

    @property
    def steps(self) -> int:
        """Steps counted since open."""
        return self._steps

    def close(self) -> None:
        """End the job: the last figures go to the daemon, or stay in the spool for it. Closing twice does nothing.

        OSError if neither the daemon nor the disk took the last figures.
        """
        if self._closed or os.getpid() != self._process:
            return
        self._closed = True
        atexit.unregister(self.close)
        self._listener.stop()
        self._recorder.stop()
        self._record.close()
        delivered = self._courier.stop(self._settings.close_s)
        self._flag.close()
        self._client.close()
        # SPEC metering-8: a file goes only when the daemon has acknowledged all that is in it.
        if delivered:
            self._record.remove()
        elif not self._record.on_disk:
            raise OSError(f"neither the lab daemon nor the spool {self._settings.spool} took the job's last figures")
        else:
            log.warning("the lab daemon has not acknowledged everything; the rest waits in %s", self._settings.spool)

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _totals(self) -> tuple[int, int]:
        return self._flop, self._steps

    def _attend(self) -> None:
        while True:
            reason = self.held
            if reason is not None and self._on_hold is not None and not self._flag.forked:
                # SPEC metering-21: the loop MUST be able to save before it stands still, once for each hold.
                self._on_hold(reason)
            self._flag.wait()
            if self._flag.pace(self._flop):
                return


def _whole(flop: object) -> int:
    """The operations as a Python integer, which never overflows. TypeError or ValueError if it is no count."""
    value = operator.index(flop)  # type: ignore[arg-type]
    if value < 0:
        raise ValueError("a step cannot have used less than nothing")
    return value
