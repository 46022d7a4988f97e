"""One flipped bit in what a stopped log has on disk: the log refuses to start, or nothing that it says has changed.

One flipped bit has ended real logs. The positions are spread over the whole file, chosen by PACEKEEPER_SEED, which is
printed. Audits of damaged public files are in tests/audit/test_audit_tampering.py.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import Final

import pytest
from log_invariants import stored_entries
from logcopy import LAB, Copy, filled_site, flip_bit
from logsite import LogSite

from pacekeeper.client.tls import lab_uri
from pacekeeper.log.fsck import fsck
from pacekeeper.log.server import serve
from pacekeeper.log.store.sqlite import SqliteStore
from pacekeeper.protocol.errors import Code, Refused
from pacekeeper.protocol.tlog.note import parse_note

SEED: Final = int(os.environ.get("PACEKEEPER_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
FLIPS: Final = 30
_WAL_HEADER: Final = 32


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> LogSite:
    return filled_site(tmp_path_factory.mktemp("original") / "log", 40)


class Served(Exception):
    """The log has come up."""


def _start(copy: Copy) -> Refused | None:
    """Start and stop the log; return why it would not start."""

    def stop(_facts: dict[str, object]) -> None:
        raise Served

    try:
        serve(copy.config, ready=stop)
    except Served:
        return None
    except Refused as refused:
        return refused
    raise AssertionError("it ended by itself")


def _said(state: Path) -> tuple[object, ...]:
    """What a log says from its store: entries, head, published checkpoint, where statements lead.

    Of the note's lines only a quorum is needed: one that no longer names a verifier is a stranger's, and ignored.
    """
    store = SqliteStore(state / "log.sqlite", read_only=True)
    try:
        ids = [batch.ids[at : at + 32] for batch in store.batches() for at in range(0, len(batch.ids), 32)]
        note = store.published()
        assert note is not None
        return stored_entries(state), store.head(), parse_note(note).text, dict(store.known(ids)), store.counts()
    finally:
        store.close()


def test_a_flipped_bit_in_the_store_is_refused_or_changes_nothing(original: LogSite, tmp_path: Path) -> None:
    """SPEC log-23 (FAULTS 10): and fsck finds it wherever it changes anything."""
    sys.stderr.write(f"PACEKEEPER_SEED={SEED}\n")
    rng = random.Random(SEED)
    sound = _said(original.state)
    size = (original.state / "log.sqlite").stat().st_size
    refusals = 0
    for number in range(FLIPS):
        position = rng.randrange(size * number // FLIPS, size * (number + 1) // FLIPS)
        copy = Copy(original, tmp_path / str(number))
        flip_bit(copy.state / "log.sqlite", position, rng.randrange(8))
        problems = fsck(copy.state)
        refused = _start(copy)
        what = f"bit flipped in byte {position} of {size}"
        if refused is None:
            assert problems or _said(copy.state) == sound, f"{what}: the log serves something else"
        else:
            refusals += 1
            assert refused.code is Code.UNSAFE_STATE, what
            assert problems, f"{what}: fsck finds nothing, and the log does not start: {refused.message}"
        shutil.rmtree(copy.state.parent)
    assert refusals > FLIPS // 4, "most of the file is entries"


@pytest.mark.parametrize("column", ["ids", "entries", "root"])
def test_a_flipped_bit_in_any_column_of_a_batch_names_its_entries(
    original: LogSite, tmp_path: Path, column: str
) -> None:
    """SPEC log-23 (FAULTS 10): also in what leads to an entry, or it would be taken a second time."""
    copy = Copy(original, tmp_path / "log")
    db = sqlite3.connect(copy.state / "log.sqlite")
    first, blob = db.execute(f"SELECT first, {column} FROM batches ORDER BY count DESC LIMIT 1").fetchone()
    damaged = bytearray(blob)
    damaged[len(blob) // 2] ^= 1
    db.execute(f"UPDATE batches SET {column} = ? WHERE first = ?", (bytes(damaged), first))
    db.commit()
    db.close()
    refused = _start(copy)
    assert refused is not None
    assert "damaged" in refused.message or "not what was published" in refused.message
    assert fsck(copy.state)


async def test_a_flipped_bit_in_the_journal_loses_nothing_silently(original: LogSite, tmp_path: Path) -> None:
    """SPEC log-25 (FAULTS 10): SQLite drops what it cannot read of its journal, without a word; the mark notices."""
    copy = Copy(original, tmp_path / "log")
    site = copy.site()
    log = await asyncio.to_thread(site.start)
    try:
        async with site.client(lab_uri(LAB), log) as client:
            await client.submit([site.declaration(LAB, "one more")], unwitnessed=True)
    finally:
        log.kill()
    journal = copy.state / "log.sqlite-wal"
    assert journal.stat().st_size > _WAL_HEADER
    flip_bit(journal, _WAL_HEADER + 24 + 100)
    assert "older backup" in await asyncio.to_thread(copy.refusal)
