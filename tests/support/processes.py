"""The processes of a site: started, killed, frozen, waited for; ended with the `with` block, whatever happens.

with Processes(site) as running:
    running.start_role("log")
    running.kill("log")        # as a power failure would, for the process
    running.wait_ready("log")
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from site_on_disk import Site, child_environment, read_ready

from pacekeeper.cli.demo.processes import Troupe

EXIT_UNSAFE = 5


class Processes(Troupe):
    """A Troupe, of a site, whose members may be killed."""

    def __init__(self, site: Site) -> None:
        super().__init__(site.root / "logs")
        self.site = site

    def __enter__(self) -> Self:
        return self

    def start_role(self, *names: str) -> None:
        """Start processes of the site."""
        for name in names:
            self.start_python(name, ["-m", "pacekeeper.cli.main", *self.site.command(name)])

    def start_python(self, name: str, arguments: list[str], environment: Mapping[str, str] | None = None) -> None:
        """Start `python ARGUMENTS` under a name."""
        self.start(name, arguments, child_environment(environment))

    def kill(self, name: str) -> None:
        """SIGKILL; returns when the process is gone."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def alive(self, name: str) -> bool:
        return name in self._running and self._running[name].poll() is None

    def pid(self, name: str) -> int:
        return self._running[name].pid

    def wait_ready(self, *names: str, seconds: float = 60) -> None:
        """Wait until each serves. AssertionError if one does not in time, or ends."""
        deadline = time.monotonic() + seconds
        for name in names:
            while read_ready(self.site.state(name)).get("pid") != self.pid(name):
                self.check_alive()
                assert time.monotonic() < deadline, f"{name} is not ready:\n{self.tail(name)}"
                time.sleep(0.03)

    def check_alive(self) -> None:
        """AssertionError if any process has ended by itself: with status 5 it has found its own state unsafe."""
        for name, process in self._running.items():
            status = process.poll()
            if status not in (None, 0):
                meaning = ": it holds its own state for unsafe" if status == EXIT_UNSAFE else ""
                raise AssertionError(f"{name} ended by itself with status {status}{meaning}\n{self.tail(name, 30)}")

    @contextlib.contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Stop a process (if it lives) between two of its instructions, so that its files hold still."""
        if not self.alive(name):
            yield
            return
        pid = self.pid(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            while not all(_is_stopped(thread) for thread in Path(f"/proc/{pid}/task").iterdir()):
                time.sleep(0.001)
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def finish(self, name: str, seconds: float = 30) -> int:
        """Ask one process to end and return its status."""
        process = self._running.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{name} did not end when it was told to:\n{self.tail(name)}") from None


@dataclass(frozen=True)
class Live:
    """A site and its running processes."""

    site: Site
    running: Processes


def _is_stopped(thread: Path) -> bool:
    try:
        # The state is the first field behind the command's name, which may hold anything, parentheses too.
        return (thread / "stat").read_text().rpartition(")")[2].split()[0] in {"T", "Z", "X"}
    except OSError:
        return True


def open_files(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident_bytes(pid: int) -> int:
    """A process's resident memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
