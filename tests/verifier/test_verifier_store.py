"""The verifier's store on a real disk: atomic, exclusive, and closed for good after a failed write."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.verifier.store import MAX_SUSPECTS, Store
from pacekeeper.verifier.witness import FRESH, WitnessState

ORIGIN = "example.org/pacekeeper"
PRINT = bytes(32)


def open_store(directory: Path) -> Store:
    return Store(directory, origin=ORIGIN, fingerprint=PRINT)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path)
    yield opened
    opened.close()


def state(size: int) -> WitnessState:
    return WitnessState(size, size.to_bytes(32, "big"), 1_000 + size, 2_000 + size, b"note %d" % size)


def entries(start: int, stop: int) -> list[bytes]:
    return [b"entry %d" % index for index in range(start, stop)]


def all_entries(store: Store) -> list[bytes]:
    return [entry for _, some in store.bundles() for entry in some]


def test_it_is_durable_before_it_is_asked_for_anything(tmp_path: Path, store: Store) -> None:
    """SPEC verifier-9: write-ahead journal, synchronous FULL."""
    store.keep(entries(0, 3), [], before=FRESH, after=state(3))
    assert (tmp_path / "verifier.db-wal").stat().st_size > 0
    # Another connection sees what was committed, while the first one is still open.
    other = sqlite3.connect(tmp_path / "verifier.db")
    assert other.execute("SELECT size FROM witness").fetchall() == [(3,)]
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()


def test_entries_and_witness_state_survive_together(tmp_path: Path) -> None:
    first = open_store(tmp_path)
    first.keep(entries(0, 600), [3, 599], before=FRESH, after=FRESH)
    first.keep(entries(600, 700), [], before=FRESH, after=state(700))
    first.close()
    again = open_store(tmp_path)
    assert (again.size, again.witness, again.id) == (700, state(700), first.id)
    assert all_entries(again) == entries(0, 700)
    assert again.voids() == {3, 599}
    assert [again.entry(index) for index in (0, 255, 256, 699)] == [
        b"entry 0",
        b"entry 255",
        b"entry 256",
        b"entry 699",
    ]
    for index in (-1, 700):
        with pytest.raises(Refused) as refused:
            again.entry(index)
        assert refused.value.code == Code.NOT_FOUND
    again.close()


def test_a_decision_from_an_older_state_changes_nothing(tmp_path: Path, store: Store) -> None:
    """SPEC verifier-9: the state on disk must still be the one that the decision was based on."""
    store.keep(entries(0, 3), [], before=FRESH, after=state(3))
    with pytest.raises(Refused, match="changed the witness state") as refused:
        store.keep(entries(3, 4), [3], before=FRESH, after=state(4))
    assert refused.value.code == Code.UNSAFE_STATE
    with pytest.raises(Refused, match="not written to any more"):
        store.keep(entries(3, 4), [], before=state(3), after=state(4))
    reader = sqlite3.connect(tmp_path / "verifier.db")
    assert reader.execute("SELECT count(*) FROM bundles").fetchone() == (1,)
    assert reader.execute("SELECT count(*) FROM voids").fetchone() == (0,)
    assert reader.execute("SELECT size FROM witness").fetchone() == (3,)
    reader.close()


def test_after_a_failed_write_nothing_is_written(tmp_path: Path, store: Store) -> None:
    """SPEC verifier-11: here the disk is full, as SQLite reports it."""
    store.keep(entries(0, 3), [], before=FRESH, after=state(3))
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(Refused, match="full") as refused:
        store.keep([b"x" * 60_000] * 10, [], before=state(3), after=state(13))
    assert refused.value.code == Code.UNSAFE_STATE
    store._db.execute("PRAGMA max_page_count=100000")
    with pytest.raises(Refused, match="not written to any more"):
        store.add_finding(b"key", b"envelope")
    assert all_entries(store) == entries(0, 3), "reads go on"
    assert store.witness == state(3)


@pytest.mark.parametrize("cosigned", [0, 1, 255, 256, 257, 300, 511, 512, 599, 600])
def test_dropping_the_uncosigned_keeps_exactly_the_cosigned(tmp_path: Path, cosigned: int) -> None:
    store = open_store(tmp_path)
    before = state(cosigned) if cosigned else FRESH
    store.keep(entries(0, 600), [0, 280, 599], before=FRESH, after=before)
    store.drop_uncosigned()
    assert all_entries(store) == entries(0, cosigned)
    assert store.voids() == {index for index in (0, 280, 599) if index < cosigned}
    store.keep(entries(cosigned, 601), [], before=before, after=state(601))
    store.close()
    again = open_store(tmp_path)
    assert all_entries(again) == entries(0, 601)
    again.close()


def test_one_directory_is_used_by_one_process(tmp_path: Path, store: Store) -> None:
    """SPEC verifier-13"""
    with pytest.raises(Refused, match="another verifier process holds") as refused:
        open_store(tmp_path)
    assert refused.value.code == Code.UNSAFE_STATE


@pytest.mark.parametrize("damage", [b"", b"not a database, but long enough to look like one" * 100])
def test_a_file_that_is_no_store_is_refused_or_empty(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "verifier.db").write_bytes(damage)
    if not damage:
        store = open_store(tmp_path)
        assert store.witness == FRESH, "empty is as good as missing: the key's marker tells them from new"
        store.close()
        return
    with pytest.raises(Refused, match=r"verifier\.db") as refused:
        open_store(tmp_path)
    assert refused.value.code == Code.UNSAFE_STATE


def test_the_store_of_another_agreement_or_program_is_refused(tmp_path: Path) -> None:
    open_store(tmp_path / "a").close()
    with pytest.raises(Refused, match="another agreement"):
        Store(tmp_path / "a", origin=ORIGIN, fingerprint=b"\1" * 32)
    with pytest.raises(Refused, match="another agreement"):
        Store(tmp_path / "a", origin="example.org/other", fingerprint=PRINT)
    (tmp_path / "b").mkdir()
    other = sqlite3.connect(tmp_path / "b" / "verifier.db")
    other.execute("CREATE TABLE something (else_ TEXT)")
    other.close()
    with pytest.raises(Refused, match="not a verifier's store"):
        open_store(tmp_path / "b")


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM bundles WHERE first = 0", "UPDATE bundles SET first = 4 WHERE first = 0"],
)
def test_missing_entries_are_noticed_at_the_start(tmp_path: Path, statement: str) -> None:
    store = open_store(tmp_path)
    store.keep(entries(0, 300), [], before=FRESH, after=state(300))
    store.close()
    db = sqlite3.connect(tmp_path / "verifier.db")
    db.execute(statement)
    db.commit()
    db.close()
    with pytest.raises(Refused, match="are missing"):
        open_store(tmp_path)


def test_a_finding_is_stored_once_under_its_key(store: Store) -> None:
    """SPEC verifier-26, SPEC verifier-27"""
    assert store.add_finding(b"key 1", b"first")
    assert store.add_finding(b"key 2", b"second")
    assert not store.add_finding(b"key 1", b"first, signed again")
    assert [found.envelope for found in store.findings(0, 10)] == [b"first", b"second"]
    assert [found.number for found in store.unpublished(10)] == [1, 2]
    assert [found.number for found in store.unpublished(10, after=1)] == [2]
    store.mark_logged(1, 77)
    assert not store.add_finding(b"key 2", b"second", 78)
    assert store.unpublished(10) == []
    assert [found.index for found in store.findings(1, 10)] == [78]
    assert store.count_findings() == 2


def test_what_is_kept_for_comparison_is_bounded(store: Store) -> None:
    for size in range(MAX_SUSPECTS + 9):
        store.keep_suspect(size, b"note")
    assert len(store.suspects(10**6)) == MAX_SUSPECTS
    store.drop_suspects(100)
    assert len(store.suspects(10**6)) == MAX_SUSPECTS - 101


def test_old_heads_make_room_for_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pacekeeper.verifier.store.MAX_HEADS", 2)
    store = open_store(tmp_path)
    before = FRESH
    for size in (1, 2, 3, 4):
        store.keep([b"e"], [], before=before, after=state(size))
        before = state(size)
    assert [store.head(size) for size in (1, 2, 3, 4)] == [None, None, b"note 3", b"note 4"]
    store.close()
