"""The listener: waits beside the courier for word that orders may have changed, and has it ask at once.

It has a connection of its own, on which nearly always one call waits and nothing is sent, so a step costs nothing more.
A meter that is not listened to (an older daemon, too many jobs) hears of a change with its next report.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from pacekeeper.node.meters.client import DaemonAway, GateClient, UnknownJob
from pacekeeper.node.meters.record import log
from pacekeeper.node.meters.settings import MeterSettings
from pacekeeper.protocol.errors import Refused

LISTEN_S: Final = 30.0  # the deadline of a waiting call; a daemon answers it sooner
_LONGEST_PAUSE_S: Final = 10.0  # between two tries to be listened to
_REFUSED_PAUSE_S: Final = 60.0


class Listener(threading.Thread):
    """Calls wake whenever the daemon says that something has changed.

    SPEC metering-24: a meter MUST keep one call waiting, and report at once when it returns with another revision.
    """

    def __init__(self, job: str, settings: MeterSettings, wake: Callable[[], None]) -> None:
        super().__init__(name="pacekeeper-listener", daemon=True)
        self._job, self._settings, self._tell = job, settings, wake
        self._client = GateClient(settings.socket, LISTEN_S)
        self._stopping = threading.Event()

    def run(self) -> None:
        known, pause_s = 0, self._settings.report_s
        while not self._stopping.is_set():
            try:
                revision = self._client.await_change(self._job, known)
            except (DaemonAway, UnknownJob):
                self._rest(pause_s)  # the courier finds out, and opens the job again
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            except Refused as refused:
                log.debug("not told of changes at once: %s", refused.message)
                self._rest(_REFUSED_PAUSE_S)
            else:
                if known and revision != known:
                    self._tell()
                known, pause_s = revision, self._settings.report_s

    def _rest(self, pause_s: float) -> None:
        """Wait without a connection: each is a file that the daemon has open."""
        self._client.close()
        self._client = GateClient(self._settings.socket, LISTEN_S)
        self._stopping.wait(pause_s)

    def stop(self) -> None:
        self._stopping.set()
        self._client.close()
        self.join()
