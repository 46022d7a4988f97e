"""A store that takes the place of another: `fsck --against` finds every entry that got lost or changed on the way.

Each change is one that the new store, by itself, would be found sound with.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from logcopy import Copy, filled_site, submit
from logsite import LogSite

from pacekeeper.cli.main import pacekeeper
from pacekeeper.log.fsck import against, compare
from pacekeeper.log.store.memory import MemoryStore
from pacekeeper.log.store.port import Batch, Head, Store
from pacekeeper.log.store.sqlite import SqliteStore

EXIT_UNSAFE = 5


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> LogSite:
    return filled_site(tmp_path_factory.mktemp("original") / "log", 80)


def _migrate(old: Store, changed: dict[int, bytes], end: int | None = None) -> MemoryStore:
    """Move entries one by one into a new store, some of them changed."""
    new = MemoryStore()
    head = old.head()
    assert head is not None
    for index in range(head.size if end is None else end):
        [entry] = old.read(index, index + 1, 1)
        identity = index.to_bytes(32, "big")
        new.commit(Batch(index, [changed.get(index, entry)], [identity], [], Head(index + 1, identity, 0)), new.head())
    note = old.published()
    assert note is not None
    new.publish(note)
    return new


def test_any_changed_or_lost_row_is_named_before_the_cut_over(original: LogSite) -> None:
    """SPEC log-39 (FAULTS 12)."""
    old = SqliteStore(original.state / "log.sqlite", read_only=True)
    head = old.head()
    assert head is not None
    size = head.size
    assert compare(old, _migrate(old, {})) == []
    for index in (0, 1, 59, size - 1):
        assert compare(old, _migrate(old, {index: b"x"})) == [f"entry {index} is another one"]
    assert compare(old, _migrate(old, {3: b"x", 70: b"y"})) == ["entry 3 is another one", "entry 70 is another one"]
    assert compare(old, _migrate(old, {}, end=size - 1)) == [f"entries from {size - 1} on are missing"]
    unpublished = _migrate(old, {})
    unpublished._note = None
    assert compare(old, unpublished) == [f"a checkpoint over {size} entries was published, here one over 0"]
    old.close()


def test_the_command_compares_with_an_older_state(original: LogSite, tmp_path: Path) -> None:
    """SPEC log-39 (FAULTS 12): growth is no difference, and the other way round it is."""
    before = tmp_path / "before"
    shutil.copytree(original.state, before)
    copy = Copy(original, tmp_path / "log")
    submit(copy.site(), ["one more"])
    run = CliRunner().invoke(pacekeeper, ["log", "fsck", str(copy.config), "--against", str(before)])
    assert (run.exit_code, run.output) == (0, "no problem found\n")
    assert against(before, copy.state)
    changed = "CAST(substr(entries, 1, 200) || x'ff' || substr(entries, 202) AS BLOB)"
    copy.sql(f"UPDATE batches SET entries = {changed} WHERE count > 10")
    run = CliRunner().invoke(pacekeeper, ["log", "fsck", str(copy.config), "--against", str(before), "--json"])
    assert run.exit_code == EXIT_UNSAFE
    assert "is another one" in run.output
    assert against(copy.state, tmp_path) == [f"{tmp_path / 'log.sqlite'} does not exist"]
