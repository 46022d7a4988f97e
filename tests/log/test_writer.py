"""The single writer: group commit, bounded queues, and what happens when the store fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from world import World

from pacekeeper.client.successors import KeyFiles
from pacekeeper.log import writer as writer_module
from pacekeeper.log.clock import SystemClock
from pacekeeper.log.sequencer import Conditions, Sequenced, Sequencer
from pacekeeper.log.store.memory import MemoryStore
from pacekeeper.log.store.port import Batch, Head, Store
from pacekeeper.log.store.sqlite import SqliteStore
from pacekeeper.log.voice import StatementKeys
from pacekeeper.log.writer import Committed, Writer
from pacekeeper.protocol.envelope import encode, frame_entry, identity, pae, parse_entry
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.replay import genesis
from pacekeeper.protocol.tlog.merkle import Frontier, leaf_hash


class Bench:
    """A writer over a store that has entry 0, dated now."""

    def __init__(self, store: Store, disk: Path | None = None) -> None:
        self.world = World(period="1 d")
        envelope = parse_entry(self.world.entries[0]).envelope
        now_ms = SystemClock().now_ms()
        entry = frame_entry(now_ms, encode(envelope))
        frontier = Frontier()
        frontier.append(leaf_hash(entry))
        ids = [identity(pae(envelope.payload_type, envelope.payload))]
        store.commit(Batch(0, [entry], ids, [], Head(1, frontier.root(), now_ms)), None)
        self.store = store
        self.commits: list[Committed] = []
        sequencer = Sequencer(
            genesis(entry), StatementKeys(KeyFiles([self.world.keys.log_statement])), store.known, store.slot
        )
        self.writer = Writer(store, sequencer, frontier, SystemClock(), Conditions, self.commits.append, disk)

    def declaration(self, run: str) -> bytes:
        return encode(self.world.seal(self.world.declaration("borealis", run), self.world.keys.lab("borealis")))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self.writer.run())
        yield task
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Refused):
            await task


async def test_what_queues_during_a_commit_is_committed_together() -> None:
    bench = Bench(MemoryStore())
    waiting = [asyncio.ensure_future(bench.writer.submit("lab", [bench.declaration(f"r{n}")])) for n in range(50)]
    await asyncio.sleep(0)
    async with bench.running():
        outcomes = [outcome for [outcome] in await asyncio.gather(*waiting)]
    assert [outcome.index for outcome in outcomes if isinstance(outcome, Sequenced)] == list(range(2, 52))
    groups = [len(commit.plan.entries) for commit in bench.commits]
    assert len(groups) < 5, "fifty callers did not cost fifty commits"
    head = bench.store.head()
    assert head is not None
    assert head.size == 52


async def test_a_duplicate_is_told_with_its_first_time() -> None:
    """SPEC log-1."""
    bench = Bench(MemoryStore())
    async with bench.running():
        [first] = await bench.writer.submit("lab", [bench.declaration("a")])
        await asyncio.sleep(0.01)
        [again] = await bench.writer.submit("other", [bench.declaration("a")])
    assert isinstance(first, Sequenced)
    assert isinstance(again, Sequenced)
    assert (again.index, again.time_ms, again.duplicate) == (first.index, first.time_ms, True)


async def test_a_flood_is_shed_and_one_caller_does_not_crowd_out_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """SPEC log-16 (FAULTS 43): by number for all, by number for each, by bytes; and what was queued is served."""
    monkeypatch.setattr(writer_module, "MAX_QUEUED", 10)
    monkeypatch.setattr(writer_module, "MAX_QUEUED_PER_CALLER", 6)
    bench = Bench(MemoryStore())
    first = asyncio.ensure_future(bench.writer.submit("greedy", [bench.declaration(f"g{n}") for n in range(6)]))
    await asyncio.sleep(0)
    with pytest.raises(Refused) as shed:
        await bench.writer.submit("greedy", [bench.declaration("more")])
    assert shed.value.code is Code.OVERLOADED
    second = asyncio.ensure_future(bench.writer.submit("modest", [bench.declaration(f"m{n}") for n in range(4)]))
    await asyncio.sleep(0)
    with pytest.raises(Refused) as full:
        await bench.writer.submit("third", [bench.declaration("t")])
    assert full.value.code is Code.OVERLOADED
    async with bench.running():
        assert all(isinstance(outcome, Sequenced) for outcome in [*(await first), *(await second)])
        [after] = await bench.writer.submit("greedy", [bench.declaration("more")])
        assert isinstance(after, Sequenced)


async def test_a_nearly_full_disk_sheds_submissions_until_there_is_room(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """SPEC log-16 (FAULTS 4): before anything is sequenced, so that no commit fails for want of space."""
    bench = Bench(MemoryStore(), tmp_path)
    async with bench.running():
        monkeypatch.setattr(writer_module, "MIN_FREE_BYTES", 2**62)
        with pytest.raises(Refused, match="disk is nearly full") as shed:
            await bench.writer.submit("lab", [bench.declaration("a")])
        assert shed.value.code is Code.OVERLOADED
        monkeypatch.setattr(writer_module, "MIN_FREE_BYTES", 0)
        [outcome] = await bench.writer.submit("lab", [bench.declaration("a")])
        assert isinstance(outcome, Sequenced)


async def test_after_a_failed_commit_nobody_is_told_an_index_and_nothing_more_is_taken(tmp_path: Path) -> None:
    """SPEC log-4, SPEC log-2 (FAULTS 2, 6, 8): another process has moved the head; the loser stops."""
    store = SqliteStore(tmp_path / "log.sqlite")
    bench = Bench(store)
    async with bench.running() as task:
        [first] = await bench.writer.submit("lab", [bench.declaration("a")])
        assert isinstance(first, Sequenced)
        rival = SqliteStore(tmp_path / "log.sqlite")
        head = rival.head()
        assert head is not None
        rival.commit(Batch(head.size, [b"x"], [bytes(32)], [], Head(head.size + 1, bytes(32), head.time_ms)), head)
        with pytest.raises(Refused) as refused:
            await bench.writer.submit("lab", [bench.declaration("b")])
        assert refused.value.code is Code.UNSAFE_STATE
        with pytest.raises(Refused) as stopped:
            await task
        assert stopped.value.code is Code.UNSAFE_STATE
        with pytest.raises(Refused):
            await bench.writer.submit("lab", [bench.declaration("c")])
    assert store.read(0, 10, 10**6)[-1] == b"x"
    rival.close()
    store.close()
