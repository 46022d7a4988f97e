"""The demonstration's processes: started in groups of their own, ended with everything that they started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pacekeeper.client.errors import Outage, TemporaryFailure


class Troupe:
    """All processes of a demonstration. Leaving the `with` block ends every one of them, whatever happened."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._expected: dict[str, int] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Troupe:
        return self

    def __exit__(self, *_: object) -> None:
        for running in self._running.values():
            _signal(running, signal.SIGTERM)
        deadline = time.monotonic() + 5
        for running in self._running.values():
            try:
                running.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(running, signal.SIGKILL)
                running.wait()
            # What it left behind in its group goes too.
            _signal(running, signal.SIGKILL)

    def start(self, name: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start `python ARGUMENTS` under a name; its output goes to logs/NAME.log."""
        with (self._logs / f"{name}.log").open("ab") as output:
            self._running[name] = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    def role(self, name: str, *arguments: str) -> None:
        """Start a `pacekeeper` command."""
        self.start(name, ["-m", "pacekeeper.cli.main", *arguments])

    def stop(self, name: str) -> int:
        """Ask one process to end, and wait for it. Returns its exit status."""
        running = self._running.pop(name)
        _signal(running, signal.SIGTERM)
        try:
            return running.wait(20)
        except subprocess.TimeoutExpired:
            _signal(running, signal.SIGKILL)
            return running.wait()

    def ended(self, name: str) -> bool:
        """Whether a process has ended by itself; TemporaryFailure, with the end of its output, if it failed."""
        status = self._running[name].poll()
        if status is None:
            return False
        if status not in (0, self._expected.get(name, 0)):
            raise TemporaryFailure(Outage.SERVER_ERROR, f"{name} ended with status {status}:\n{self.tail(name)}")
        return True

    def expect(self, name: str, status: int) -> None:
        """From now on a process may end by itself with this status as well."""
        self._expected[name] = status

    def check(self) -> None:
        """Raise TemporaryFailure if any process has failed."""
        for name in self._running:
            self.ended(name)

    def wait_for(self, path: Path, seconds: float) -> None:
        """Wait until a file appears. TemporaryFailure when it does not, or when a process fails meanwhile."""
        deadline = time.monotonic() + seconds
        while not path.exists():
            self.check()
            if time.monotonic() > deadline:
                raise TemporaryFailure(Outage.DEADLINE_EXCEEDED, f"{path} did not appear within {seconds:.0f} s")
            time.sleep(0.05)

    def tail(self, name: str, lines: int = 12) -> str:
        """The last lines that a process printed."""
        try:
            text = (self._logs / f"{name}.log").read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


def _signal(running: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(running.pid, number)
    except ProcessLookupError:
        return
