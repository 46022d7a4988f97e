"""Two threads beside training: the recorder samples and spools, the courier talks to the daemon.

SPEC metering-3: the training thread's step makes no call, and every call has a deadline. The recorder never waits for
the network, so a hung daemon does not blur a period's end. The courier carries whatever is outstanding, in any state of
the daemon: opening, reporting and catching up are the same round.
"""

from __future__ import annotations

import threading
import time

from pacekeeper.node.meters.client import DaemonAway, GateClient, UnknownJob
from pacekeeper.node.meters.hold import HoldFlag
from pacekeeper.node.meters.orders import read_order
from pacekeeper.node.meters.record import JobRecord, log
from pacekeeper.node.meters.settings import MeterSettings, OnDaemonDown
from pacekeeper.node.meters.usage import PeriodCalendar, PeriodFigure
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.text import printable
from pacekeeper.v1 import gate_pb2

_FIGURES_PER_CALL = 1_000  # a year of one-minute periods catches up in pieces well under gRPC's message limit
_REFUSED_PAUSE_S = 5.0  # a refusal seldom heals by itself


class Recorder(threading.Thread):
    """Samples right after each period's end, rewrites the spool file when its time has come, and tightens by plan."""

    def __init__(self, record: JobRecord, settings: MeterSettings, flag: HoldFlag, courier: Courier) -> None:
        super().__init__(name="pacekeeper-recorder", daemon=True)
        self._record, self._settings, self._flag, self._courier = record, settings, flag, courier
        self._stopping = threading.Event()

    def run(self) -> None:
        try:
            self._loop()
        finally:
            if not self._stopping.is_set():
                self._flag.fail(RuntimeError("its recorder thread ended"))

    def _loop(self) -> None:
        written_ms = self._record.now_ms()
        boundary_ms = self._record.next_boundary_ms()
        while True:
            planned_s = self._flag.advance()
            due_ms = min(self._due_ms(written_ms), boundary_ms)
            pause_s = max(1, due_ms - self._record.now_ms()) / 1000
            self._flag.planned_earlier.wait(pause_s if planned_s is None else min(pause_s, max(0.001, planned_s)))
            self._flag.planned_earlier.clear()
            if self._stopping.is_set():
                return
            now_ms = self._record.now_ms()
            if now_ms >= boundary_ms:
                self._record.sample()
                self._courier.wake()  # a period ended: its figure is final, so say it now
                boundary_ms = self._record.next_boundary_ms()
            if now_ms >= self._due_ms(written_ms):  # it is later if the daemon has acknowledged more meanwhile
                self._record.write()
                written_ms = now_ms

    def _due_ms(self, written_ms: int) -> int:
        """When the file is to be rewritten, if it was last tried at written_ms, in the job's time.

        SPEC metering-5: within ten seconds, and about a second after what the daemon has acknowledged, so that a
        killed job loses about a second. A daemon's acknowledgement is as good as the file (node-21), and costs less.
        """
        unsafe_ms = max(written_ms, self._record.safe_ms) + round(self._settings.loss_s * 1000)
        return min(unsafe_ms, written_ms + round(self._settings.spool_s * 1000))

    def stop(self) -> None:
        self._stopping.set()
        self._flag.planned_earlier.set()
        self.join()


class Courier(threading.Thread):
    """Delivers what is outstanding, and sets the hold flag by what the daemon answers or that it does not."""

    def __init__(
        self, record: JobRecord, client: GateClient, settings: MeterSettings, flag: HoldFlag, *, opened: bool
    ) -> None:
        super().__init__(name="pacekeeper-courier", daemon=True)
        self._record, self._client, self._settings, self._flag = record, client, settings, flag
        self._opened = opened
        self._said: str | None = None
        self._wake = threading.Event()
        self._stopping = threading.Event()

    def wake(self) -> None:
        """Make the next round now."""
        self._wake.set()

    def stop(self, patience_s: float) -> bool:
        """Deliver the rest, for at most about patience_s; whether all was delivered."""
        self._wake.set()
        give_up = time.monotonic() + patience_s
        while self.is_alive() and not self._record.delivered() and time.monotonic() < give_up:
            self._wake.set()
            self.join(0.05)
        self._stopping.set()
        self._wake.set()
        self.join(self._settings.call_s + 1)
        return self._record.delivered()

    def run(self) -> None:
        try:
            while not self._stopping.is_set() and not self._record.delivered():
                pause_s = self._round()
                self._wake.wait(pause_s)
                self._wake.clear()
        finally:
            if not self._stopping.is_set() and not self._record.delivered():
                self._flag.fail(RuntimeError("its courier thread ended"))

    def _round(self) -> float:
        """One exchange; returns how long to pause."""
        try:
            self._deliver()
        except DaemonAway as error:
            self._lost(f"the lab daemon is away ({printable(str(error))})")
            return self._settings.report_s
        except UnknownJob:
            self._lost("the lab daemon does not know this job, so it is opened again")
            return self._settings.report_s
        except Refused as error:
            self._refused(error)
            return _REFUSED_PAUSE_S
        if self._said is not None:
            log.warning("the lab daemon answers again; everything metered has been handed over")
            self._said = None
        return self._settings.report_s

    def _deliver(self) -> None:
        # SPEC metering-4: calls are idempotent; after a failed one the job is opened again and every figure sent again.
        if not self._opened:
            answer = self._client.open_job(self._record.opening)
            if read_calendar_of(answer) != self._record.calendar:
                raise Refused(Code.WRONG_AGREEMENT, "its calendar is not the one that this job was started under")
            self._record.forget_acknowledgements()
            self._opened = True
            self._flag.order(read_order(answer))
        outstanding = self._record.outstanding()
        refusal: Refused | None = None
        for checkpoint in outstanding.checkpoints:
            try:
                self._client.record_checkpoint(self._record.opening.job, checkpoint, outstanding.notes)
            except Refused as error:  # usage goes on being reported: one refused checkpoint mutes nothing else
                refusal = error
            else:
                self._record.acknowledge_checkpoint(checkpoint)
        figures = outstanding.figures
        while len(figures) > _FIGURES_PER_CALL:
            self._report(figures[:_FIGURES_PER_CALL], outstanding.notes)
            figures = figures[_FIGURES_PER_CALL:]
        self._report(figures, outstanding.notes, closing=outstanding.closing)
        if refusal is not None:
            raise refusal
        self._record.acknowledge_all(outstanding)

    def _report(self, figures: tuple[PeriodFigure, ...], notes: tuple[str, ...], *, closing: bool = False) -> None:
        answer = self._client.report_usage(self._record.opening.job, figures, notes, closing=closing)
        self._record.acknowledge(figures, notes, closing=closing)
        self._flag.order(read_order(answer))

    def _lost(self, why: str) -> None:
        self._opened = False
        if self._settings.on_daemon_down is OnDaemonDown.HOLD:
            self._flag.miss(why)
        self._say(f"{why}; {_CONSEQUENCE[self._settings.on_daemon_down]}")

    def _refused(self, error: Refused) -> None:
        self._opened = False
        if error.code is Code.WRONG_AGREEMENT:
            self._flag.fail(error)  # figures split by another calendar would be wrong, so none more are made
        if self._settings.on_daemon_down is OnDaemonDown.HOLD:
            self._flag.miss(f"the lab daemon refuses this job: {printable(error.message)}")
        self._say(f"the lab daemon refuses: {printable(error.message)}; the account stays in the spool")

    def _say(self, sentence: str) -> None:
        if self._said != sentence:
            log.warning("%s", sentence)
        self._said = sentence


_CONSEQUENCE = {
    OnDaemonDown.CONTINUE: "training goes on, and what it uses is kept in the spool",
    OnDaemonDown.HOLD: "training is held until it is back",
}


def read_calendar_of(answer: gate_pb2.OpenJobResponse) -> PeriodCalendar:
    """The calendar that the daemon told. Refused(bad-field) if it is none."""
    try:
        return PeriodCalendar(answer.calendar.epoch_ms, answer.calendar.period_ms)
    except ValueError as error:
        raise Refused(Code.BAD_FIELD, f"the lab daemon told no calendar: {error}") from None
