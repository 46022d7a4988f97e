"""A commit whose outcome the log does not learn: kept and reported as failed, lost and reported as done.

Two faults per write, above any store: whatever the store has done, nobody is told an index that does not hold, nothing
is sequenced on a guess, and over all lives of the log there is one tree of each size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from writer_bench import Bench

from pacekeeper.log.mark import HeadMark, MarkedStore
from pacekeeper.log.sequencer import Sequenced
from pacekeeper.log.store.port import Batch, Head
from pacekeeper.log.store.sqlite import SqliteStore
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.checkpoint import parse_checkpoint
from pacekeeper.protocol.tlog.note import parse_note

KEPT_BUT_FAILED: Final = "kept, reported as failed"
LOST_AND_FAILED: Final = "lost, reported as failed"
LOST_BUT_DONE: Final = "lost, reported as done"


class DoubtfulStore(SqliteStore):
    """A store whose next commit ends in one of these ways."""

    fault = ""

    def commit(self, batch: Batch, expected: Head | None) -> None:
        fault, self.fault = self.fault, ""
        if fault in {"", KEPT_BUT_FAILED}:
            super().commit(batch, expected)
        if fault in {KEPT_BUT_FAILED, LOST_AND_FAILED}:
            raise Refused(Code.UNSAFE_STATE, "no answer from the disk")


class Signatures:
    """Everything that the log's key signs: one root for each size, whatever happens."""

    def __init__(self) -> None:
        self.roots: dict[int, bytes] = {}

    def sign(self, bench: Bench) -> None:
        head = bench.store.head()
        assert head is not None
        checkpoint = parse_checkpoint(parse_note(bench.publisher(Path("nowhere")).prepare(head)).text)
        assert self.roots.setdefault(checkpoint.size, checkpoint.root) == checkpoint.root, "two trees of one size"


async def _submit(bench: Bench, run: str) -> int:
    [outcome] = await bench.writer.submit("lab", [bench.declaration(run)])
    assert isinstance(outcome, Sequenced)
    return outcome.index


@pytest.mark.parametrize("fault", [KEPT_BUT_FAILED, LOST_AND_FAILED])
async def test_a_commit_that_failed_is_not_told_and_is_looked_up_after_a_restart(tmp_path: Path, fault: str) -> None:
    """SPEC log-2, SPEC log-3, SPEC log-1 (FAULTS 6): no answer, no second tree, one index for ever."""
    store = DoubtfulStore(tmp_path / "log.sqlite")
    bench, signatures = Bench(store), Signatures()
    async with bench.running() as task:
        assert await _submit(bench, "a") == 2
        signatures.sign(bench)
        store.fault = fault
        with pytest.raises(Refused, match="state is unsafe"):
            await _submit(bench, "b")
        with pytest.raises(Refused):
            await task
        with pytest.raises(Refused):
            await _submit(bench, "c")
    store.close()
    again = DoubtfulStore(tmp_path / "log.sqlite")
    later = Bench(again, earlier=bench)
    signatures.sign(later)
    kept = fault == KEPT_BUT_FAILED
    async with later.running():
        # The first entry of a new life is a Tick.
        index = await _submit(later, "b")
        assert index == (3 if kept else 4)
        assert await _submit(later, "a") == 2
        assert await _submit(later, "b") == index
        assert await _submit(later, "c") == 5
        signatures.sign(later)
    assert len(signatures.roots) == (3 if kept else 2)
    again.close()


async def test_a_commit_that_was_lost_behind_the_logs_back_is_noticed_at_the_next(tmp_path: Path) -> None:
    """SPEC log-3, SPEC log-26 (FAULTS 6): the stored head is not the computed one; the mark knows of the lost one."""
    store = DoubtfulStore(tmp_path / "log.sqlite")
    with HeadMark(tmp_path / "key.head", "example.org/log") as mark:
        bench = Bench(MarkedStore(store, mark))
        async with bench.running() as task:
            assert await _submit(bench, "a") == 2
            store.fault = LOST_BUT_DONE
            assert await _submit(bench, "b") == 3  # such a disk cannot be found out earlier
            with pytest.raises(Refused, match="unsafe"):
                await _submit(bench, "c")
            with pytest.raises(Refused, match="not the one that this log has computed from"):
                await task
    store.close()
    with HeadMark(tmp_path / "key.head", "example.org/log") as mark, pytest.raises(Refused, match="would fork the log"):
        mark.refuse_older(SqliteStore(tmp_path / "log.sqlite").head())
