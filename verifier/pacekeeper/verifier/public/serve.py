"""Runs a public witness until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from pacekeeper.client.errors import ConfigError
from pacekeeper.client.web import WebServer, bind
from pacekeeper.protocol.errors import Refused
from pacekeeper.verifier.marker import KeyMarker
from pacekeeper.verifier.public.desk import WitnessDesk
from pacekeeper.verifier.public.service import WitnessService
from pacekeeper.verifier.public.settings import WitnessSettings, load_settings
from pacekeeper.verifier.public.store import WitnessStore

_log = structlog.get_logger()


async def serve(config_path: Path, *, ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM, SIGINT or cancellation; ready gets the address. ConfigError, or Refused when the own state
    is unsafe, also while running."""
    settings = load_settings(config_path)
    marker = KeyMarker(settings.key_path)
    try:
        with contextlib.closing(WitnessStore(settings.state / "witness.db")) as store:
            desk = WitnessDesk(settings.name, settings.signers, settings.logs, store, marker, lambda: int(time.time()))
            await _serve(settings, desk, ready)
    finally:
        marker.close()


async def _serve(settings: WitnessSettings, desk: WitnessDesk, ready: Callable[[str], None] | None) -> None:
    stopped = asyncio.get_running_loop().create_future()

    def stop(refused: Refused | None = None) -> None:
        if not stopped.done():
            stopped.set_result(refused)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Only the main thread may; elsewhere the caller stops this task by cancelling it.
        with contextlib.suppress(ValueError, RuntimeError):
            loop.add_signal_handler(number, stop)
    try:
        bound = bind(settings.host, settings.port)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise ConfigError(f'listen: "{where}" cannot be listened on: {error.strerror}') from None
    address = f"{settings.host}:{bound.getsockname()[1]}"
    server = WebServer(WitnessService(desk, stop), bound)
    running = asyncio.create_task(server.run())
    try:
        (settings.state / "ready").write_text(json.dumps({"listen": address}) + "\n", encoding="utf-8")
        _log.info("witness ready", name=settings.name, listen=address, logs=len(settings.logs))
        if ready is not None:
            ready(address)
        await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
    finally:
        server.stop()
        await running
        (settings.state / "ready").unlink(missing_ok=True)
    refused = stopped.result() if stopped.done() else None
    if refused is not None:
        raise refused
