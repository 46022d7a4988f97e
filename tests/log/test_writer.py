"""The single writer: group commit, bounded queues, and what happens when the store fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from writer_bench import Bench

from pacekeeper.log import room as room_module
from pacekeeper.log import writer as writer_module
from pacekeeper.log.room import Room
from pacekeeper.log.sequencer import Sequenced
from pacekeeper.log.store.memory import MemoryStore
from pacekeeper.log.store.port import Batch, Head
from pacekeeper.log.store.sqlite import SqliteStore
from pacekeeper.protocol.errors import Code, Refused


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


async def test_a_refusal_holds_nothing_of_what_was_submitted_beside_it() -> None:
    """Not by the frames that it was raised in: answers may wait long to be read."""
    bench = Bench(MemoryStore())
    async with bench.running():
        outcomes = await bench.writer.submit("lab", [b"nothing", bench.declaration("a"), bench.declaration("A a")])
    refused = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    assert len(refused) == 2
    assert [outcome.__traceback__ for outcome in refused] == [None, None]


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
    room = Room(tmp_path)
    bench = Bench(MemoryStore(), room.for_entries)
    async with bench.running():
        monkeypatch.setattr(room_module, "MIN_FREE_BYTES", 2**62)
        with pytest.raises(Refused, match="disk is nearly full") as shed:
            await bench.writer.submit("lab", [bench.declaration("a")])
        assert shed.value.code is Code.OVERLOADED
        monkeypatch.setattr(room_module, "MIN_FREE_BYTES", 0)
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
