"""A log's writer in this process, over any store: entries are made, submitted and committed, nothing is published.

Example: async with bench.running(): [outcome] = await bench.writer.submit("lab", [bench.declaration("a")])
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from world import World

from pacekeeper.client.successors import KeyFiles
from pacekeeper.log.clock import Clock, SystemClock
from pacekeeper.log.files import PublicFiles
from pacekeeper.log.publisher import Publisher
from pacekeeper.log.recovery import recover
from pacekeeper.log.sequencer import Conditions, Sequencer
from pacekeeper.log.store.port import Batch, Head, Store
from pacekeeper.log.voice import StatementKeys
from pacekeeper.log.writer import Committed, Writer
from pacekeeper.protocol.envelope import encode, frame_entry, identity, pae, parse_entry
from pacekeeper.protocol.errors import Refused
from pacekeeper.protocol.replay import State, genesis
from pacekeeper.protocol.tlog.merkle import Frontier, leaf_hash


class Bench:
    """A writer over a store that has entry 0, dated now; or over what an earlier bench of this world has left in it."""

    def __init__(
        self,
        store: Store,
        room: Callable[[], bool] = lambda: True,
        earlier: Bench | None = None,
        clock: Clock | None = None,
        conditions: Callable[[], Conditions] = Conditions,
    ) -> None:
        self.world: World = earlier.world if earlier else World(period="1 d")
        self.store = store
        self._clock = clock or SystemClock()
        self.commits: list[Committed] = []
        state, frontier = self._found() if earlier is None else self._recover()
        sequencer = Sequencer(state, StatementKeys(KeyFiles([self.world.keys.log_statement])), store.known, store.slot)
        self.writer = Writer(store, sequencer, frontier, self._clock, conditions, self.commits.append, room)

    def _found(self) -> tuple[State, Frontier]:
        envelope = parse_entry(self.world.entries[0]).envelope
        now_ms = self._clock.now_ms()
        entry = frame_entry(now_ms, encode(envelope))
        frontier = Frontier()
        frontier.append(leaf_hash(entry))
        ids = [identity(pae(envelope.payload_type, envelope.payload))]
        self.store.commit(Batch(0, [entry], ids, [], Head(1, frontier.root(), now_ms)), None)
        return genesis(entry), frontier

    def _recover(self) -> tuple[State, Frontier]:
        # Nothing is published here, so that no file is made.
        publisher = self.publisher(Path("nowhere"))
        recovered = recover(self.store, publisher, self.world.agreement)
        return recovered.state, recovered.frontier

    def publisher(self, directory: Path) -> Publisher:
        """What signs this store's heads."""
        files = PublicFiles(directory)
        return Publisher(self.store, files, self.world.agreement.origin, self.world.keys.log_checkpoint)

    def declaration(self, run: str) -> bytes:
        return encode(self.world.seal(self.world.declaration("borealis", run), self.world.keys.lab("borealis")))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self.writer.run())
        yield task
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Refused):
            await task
