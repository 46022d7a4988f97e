"""A way through the network that a test can cut, stall in one direction, slow down and mend: a TCP proxy on loopback.

Example: async with Way(port) as way: Cosigner(people, party, way.address); way.cut(); way.mend()
"""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType

_CHUNK = 4_096


class Way:
    """From its own address to a port of this machine. TCP keeps the order: what is stalled arrives, late, or never."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._there, self._back = asyncio.Event(), asyncio.Event()
        self._up = True
        self.delay_s = 0.0
        self.address = ""
        self.mend()

    def cut(self) -> None:
        """Break every connection, and every new one at once."""
        self._up = False
        for writer in self._open:
            writer.transport.abort()

    def stall(self, *, there: bool = False, back: bool = False) -> None:
        """Let nothing through in a direction, without breaking anything."""
        for direction, stalled in ((self._there, there), (self._back, back)):
            if stalled:
                direction.clear()

    def mend(self) -> None:
        """Let everything through, at once."""
        self._up, self.delay_s = True, 0.0
        self._there.set()
        self._back.set()

    async def __aenter__(self) -> Way:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self._up:
                # A cancelled handler would be reported as a failed callback; it ends here as it ends anyway.
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    await self._join(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        ends = {writer, far_writer}
        self._open |= ends
        pumps = [
            asyncio.create_task(self._pump(reader, far_writer, self._there)),
            asyncio.create_task(self._pump(far_reader, writer, self._back)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._open -= ends
            far_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        while data := await reader.read(_CHUNK):
            await asyncio.sleep(self.delay_s)
            await gate.wait()
            writer.write(data)
            await writer.drain()
