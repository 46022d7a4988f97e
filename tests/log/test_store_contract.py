"""One contract suite for every store: memory and SQLite."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacekeeper.log.store.identities import IdentityIndex
from pacekeeper.log.store.memory import MemoryStore
from pacekeeper.log.store.port import Batch, Head, Slot, Store
from pacekeeper.log.store.sqlite import SqliteStore
from pacekeeper.protocol.errors import Code, Refused

Open = Callable[[], Store]


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "log.sqlite")


def _id(entry: bytes) -> bytes:
    return hashlib.sha256(entry).digest()


def _batch(first: int, entries: list[bytes], slots: list[Slot] | None = None, time_ms: int | None = None) -> Batch:
    head = Head(first + len(entries), _id(b"".join(entries)), first if time_ms is None else time_ms)
    return Batch(first, entries, [_id(entry) for entry in entries], slots or [], head)


def _fill(store: Store, *groups: list[bytes]) -> Head:
    head = store.head()
    for group in groups:
        batch = _batch(head.size if head else 0, group)
        store.commit(batch, head)
        head = batch.head
    assert head is not None
    return head


def test_a_new_store_is_empty(store: Store) -> None:
    assert store.head() is None
    assert store.published() is None
    assert store.read(0, 10, 1000) == []
    assert list(store.batches()) == []
    assert store.root_at(0) is None
    assert store.counts() == (0, 0)


def test_what_was_committed_is_read_back_across_batches(store: Store) -> None:
    head = _fill(store, [b"a", b"bb"], [b"ccc"], [b"d", b"e" * 65_535, b""])
    assert store.head() == head
    assert store.read(0, 6, 10**6) == [b"a", b"bb", b"ccc", b"d", b"e" * 65_535, b""]
    assert store.read(1, 4, 10**6) == [b"bb", b"ccc", b"d"]
    assert store.read(4, 5, 1) == [b"e" * 65_535]
    assert store.read(0, 6, 3) == [b"a", b"bb"]
    assert store.read(6, 9, 10) == []
    assert [(batch.first_index, batch.entries) for batch in store.batches()] == [
        (0, [b"a", b"bb"]),
        (2, [b"ccc"]),
        (3, [b"d", b"e" * 65_535, b""]),
    ]


def test_the_root_after_each_batch_is_found_by_its_size(store: Store) -> None:
    _fill(store, [b"a", b"b"], [b"c"])
    assert [store.root_at(size) for size in range(5)] == [None, None, _id(b"ab"), _id(b"c"), None]


def test_identities_lead_to_their_indices(store: Store) -> None:
    _fill(store, [b"%d" % number for number in range(300)], [b"x"])
    ids = [_id(b"%d" % number) for number in range(300)]
    assert store.known([*ids, _id(b"absent"), _id(b"x")]) == {**dict(zip(ids, range(300), strict=True)), _id(b"x"): 300}
    assert store.known([]) == {}
    assert store.counts() == (301, 0)


def test_slots_lead_to_the_statement_that_took_them(store: Store) -> None:
    slots = [Slot("lab", 1, 0), Slot("other", 1, 1), Slot("lab", 2, 3), Slot("lab", 3, 4)]
    first = _batch(0, [b"a", b"b", b"tick", b"c", b"d"], slots)
    store.commit(first, None)
    assert [store.slot("lab", sequence) for sequence in range(6)] == [None, 0, 3, 4, None, None]
    assert store.slot("other", 1) == 1
    assert store.slot("nobody", 1) is None
    assert store.counts() == (5, 4)
    store.commit(_batch(5, [b"e"], [Slot("lab", 4, 5)]), first.head)
    assert [store.slot("lab", sequence) for sequence in range(6)] == [None, 0, 3, 4, 5, None]
    assert store.counts() == (6, 5)


def test_the_head_is_replaced_only_from_what_it_was_computed_from(store: Store) -> None:
    """SPEC log-3: of two writers that start from one head, the second must fail, and its batch must leave no trace."""
    head = _fill(store, [b"a"])
    winner = _batch(1, [b"b"])
    store.commit(winner, head)
    with pytest.raises(Refused) as refused:
        store.commit(_batch(1, [b"c"]), head)
    assert refused.value.code is Code.UNSAFE_STATE
    assert store.head() == winner.head
    assert store.read(0, 5, 100) == [b"a", b"b"]
    assert store.known([_id(b"c")]) == {}


def test_a_head_whose_time_runs_backwards_is_fatal(store: Store) -> None:
    """SPEC log-3."""
    first = _batch(0, [b"a"], time_ms=1000)
    store.commit(first, None)
    with pytest.raises(Refused, match="time"):
        store.commit(_batch(1, [b"b"], time_ms=999), first.head)
    assert store.head() == first.head


def test_a_statement_cannot_be_stored_twice(store: Store) -> None:
    head = _fill(store, [b"a"])
    with pytest.raises(Refused) as refused:
        store.commit(_batch(1, [b"b", b"a"]), head)
    assert refused.value.code is Code.UNSAFE_STATE
    assert store.read(0, 5, 100) == [b"a"]
    assert store.known([_id(b"b")]) == {}


def test_the_published_note_is_replaced(store: Store) -> None:
    store.publish(b"one")
    store.publish(b"two")
    assert store.published() == b"two"


def test_transition_checkpoints_are_kept_in_order_whatever_is_published_after(store: Store) -> None:
    """SPEC transition-6."""
    assert store.transitions() == []
    store.publish(b"one")
    store.publish(b"two", transition=True)
    store.publish(b"two with more lines")
    store.publish(b"three")
    store.publish(b"four", transition=True)
    assert (store.published(), store.transitions()) == (b"four", [b"two", b"four"])


def test_a_batch_without_entries_or_with_a_wrong_head_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="empty"):
        Batch(0, [], [], [], Head(0, b"", 0))
    with pytest.raises(ValueError, match="head"):
        Batch(0, [b"a"], [b"i"], [], Head(2, b"", 0))
    with pytest.raises(ValueError, match="identity"):
        Batch(0, [b"a"], [], [], Head(1, b"", 0))


def test_nothing_is_written_after_a_failed_commit(tmp_path: Path) -> None:
    """SPEC log-4: after a failed write nothing may be written again, and what was there before is still read."""
    store = SqliteStore(tmp_path / "log.sqlite")
    head = _fill(store, [b"a"])
    with pytest.raises(Refused):
        store.commit(_batch(1, [b"a"]), head)
    with pytest.raises(Refused, match="not written to any more"):
        store.commit(_batch(1, [b"b"]), head)
    with pytest.raises(Refused, match="not written to any more"):
        store.publish(b"note")
    assert store.read(0, 5, 100) == [b"a"]
    store.close()
    again = SqliteStore(tmp_path / "log.sqlite")
    assert again.head() == head
    again.commit(_batch(1, [b"b"]), head)


def test_sqlite_is_durable_by_what_its_pragmas_return(tmp_path: Path) -> None:
    """SPEC log-2: the write-ahead journal with synchronous FULL, and refusal where the file system cannot have it."""
    store = SqliteStore(tmp_path / "log.sqlite")
    assert store._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._writer.execute("PRAGMA synchronous").fetchone() == (2,)
    with pytest.raises(Refused) as refused:
        SqliteStore(Path(":memory:"))
    assert "cannot be written durably" in refused.value.message


def test_identities_and_slots_are_found_again_when_the_store_is_opened(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "log.sqlite")
    head = _fill(store, [b"%d" % number for number in range(100)])
    store.commit(_batch(100, [b"x"], [Slot("lab", 1, 100)]), head)
    store.close()
    again = SqliteStore(tmp_path / "log.sqlite")
    assert again.known([_id(b"7"), _id(b"x"), _id(b"absent")]) == {_id(b"7"): 7, _id(b"x"): 100}
    assert again.slot("lab", 1) == 100
    assert again.counts() == (101, 1)


def test_identities_that_share_their_first_bytes_are_told_apart(tmp_path: Path) -> None:
    """The index in memory knows 44 bits of an identity; the rest is compared with what is stored."""
    ids = [b"same six" + bytes([number]) * 24 for number in range(20)]
    store = SqliteStore(tmp_path / "log.sqlite")
    store.commit(Batch(0, [b"e"] * 20, ids, [], Head(20, bytes(32), 0)), None)
    assert store.known(ids) == {identity: number for number, identity in enumerate(ids)}
    assert store.known([b"same six" + bytes(23) + b"x", b"same sex" + bytes(24)]) == {}


@given(st.lists(st.binary(min_size=32, max_size=32), unique=True, max_size=300), st.integers(0, 5))
def test_every_identity_is_among_its_own_candidates(ids: list[bytes], shared: int) -> None:
    ids = list(dict.fromkeys(b"sharedbytes"[:shared] + identity[shared:] for identity in ids))
    index = IdentityIndex()
    index.add(ids, 1_000)
    for number, identity in enumerate(ids, 1_000):
        found = list(index.candidates(identity))
        assert number in found
        assert all(ids[other - 1_000][:5] == identity[:5] for other in found)
    with pytest.raises(ValueError, match="at most"):
        index.add([bytes(32)], 2**32)


def test_a_file_that_is_not_a_log_store_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    path.write_bytes(b"not a database, but long enough to look like one" * 100)
    with pytest.raises(Refused, match=r"log\.sqlite"):
        SqliteStore(path)
    other = tmp_path / "other.sqlite"
    import sqlite3

    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE t (a)")
    with pytest.raises(Refused, match="not a log store"):
        SqliteStore(other)


def test_a_read_only_store_reads_and_refuses_to_write(tmp_path: Path) -> None:
    head = _fill(SqliteStore(tmp_path / "log.sqlite"), [b"a"])
    store = SqliteStore(tmp_path / "log.sqlite", read_only=True)
    assert store.head() == head
    assert store.check_file() == []
    with pytest.raises(Refused):
        store.commit(_batch(1, [b"b"]), head)
    with pytest.raises(Refused, match="does not exist"):
        SqliteStore(tmp_path / "none.sqlite", read_only=True)


def test_a_batch_cut_short_is_named_by_its_entry(tmp_path: Path) -> None:
    import sqlite3

    store = SqliteStore(tmp_path / "log.sqlite")
    _fill(store, [b"aaaa", b"bbbb"])
    store.close()
    with sqlite3.connect(tmp_path / "log.sqlite") as db:
        db.execute("UPDATE batches SET entries = substr(entries, 1, 9)")
    db.close()
    with pytest.raises(Refused, match="entry 1 is cut short"):
        list(SqliteStore(tmp_path / "log.sqlite").batches())
