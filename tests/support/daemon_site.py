"""A lab's real daemon as a process, beside a log on this loop that admits by replay and ticks by real time.

Example:
    async with Site(tmp_path) as site:
        await site.start()
        site.kill()
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from lab_bench import LAB, AdmittingLog, eventually, free_port, write_site
from participants import Participants, make_participants

from pacekeeper.node.config import load_settings
from pacekeeper.protocol.units import format_time
from pacekeeper.v1 import log_pb2_grpc


def launch(config: Path) -> subprocess.Popen[bytes]:
    """Start the daemon."""
    command = [sys.executable, "-m", "pacekeeper.node.daemon", str(config)]
    environment = os.environ | {"GRPC_VERBOSITY": "ERROR"}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)


def refuse_to_run(config: Path) -> tuple[int, bytes]:
    """Start the daemon where it cannot run; return its exit status and what it says."""
    with launch(config) as process:
        _, said = process.communicate(timeout=30)
        return process.returncode, said


class Site:
    """A lab's folder, its log on this loop, and the daemon as a process."""

    def __init__(self, folder: Path, *, period_s: int = 2, more: str = "") -> None:
        self.port = free_port()
        epoch_ms = time.time_ns() // 10**9 * 1000
        self.people: Participants = make_participants(
            labs=1,
            epoch=format_time(epoch_ms),
            period=f"{period_s} s",
            due="2 s",
            tick="200 ms",
            tolerance="2 s",
            fill_in="10 min",
            addresses={"log": f"127.0.0.1:{self.port}"},
        )
        self.config = write_site(folder, self.people, more=more)
        self.settings = load_settings(self.config)
        self.log = AdmittingLog(self.people, lambda: time.time_ns() // 1_000_000)
        self.process: subprocess.Popen[bytes] | None = None
        self._server: Any = None
        self._ticking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Site:
        self._server = grpc.aio.server()
        log_pb2_grpc.add_TransparencyLogServicer_to_server(self.log, self._server)
        self._server.add_secure_port(f"127.0.0.1:{self.port}", self.people.log_credentials())
        await self._server.start()
        self._ticking = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
        if self.process is not None and self.process.poll() is None:
            self.kill()
        await self._server.stop(0)

    async def _tick(self) -> None:
        while True:
            self.log.tick()
            await asyncio.sleep(0.15)

    async def start(self) -> None:
        ready = self.settings.state / "ready"
        ready.unlink(missing_ok=True)
        self.process = process = await asyncio.to_thread(launch, self.config)
        await eventually(lambda: ready.exists() or process.poll() is not None)
        assert process.poll() is None, process.stderr and process.stderr.read().decode()

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    async def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, 10)

    @property
    def lab(self) -> Any:
        return self.log.state.labs[LAB]
