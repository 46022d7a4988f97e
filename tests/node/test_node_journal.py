"""The journal after damage, truncation and failing disks: either exactly what was written, or refused."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

from pacekeeper.node.journal import MAGIC, MAX_PAYLOAD_BYTES, Journal
from pacekeeper.protocol.errors import Code, Refused

RECORDS = [b"", b"a", b"second record", bytes(range(256)), b"last"]


def write(path: Path, records: list[bytes]) -> bytes:
    journal = Journal(path)
    assert list(journal.recover()) == []
    for record in records:
        journal.append([record])
    journal.close()
    return path.read_bytes()


def read(path: Path) -> list[bytes]:
    journal = Journal(path)
    try:
        return [payload for _, payload in journal.recover()]
    finally:
        journal.close()


def test_journal_gives_back_what_was_appended_in_order(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, RECORDS)
    assert read(path) == RECORDS
    assert path.stat().st_mode & 0o777 == 0o600


def test_journal_goes_on_after_reopening_and_groups_count_as_their_records(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, RECORDS[:2])
    journal = Journal(path)
    assert [payload for _, payload in journal.recover()] == RECORDS[:2]
    journal.append(RECORDS[2:])
    journal.close()
    assert read(path) == RECORDS


def test_journal_refuses_every_flipped_bit(tmp_path: Path) -> None:
    """SPEC node-2: any damage other than an incomplete last frame is refused, with file and offset."""
    path = tmp_path / "journal"
    whole = write(path, RECORDS)
    dice = random.Random(20260101)
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << dice.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(Refused) as refused:
            read(path)
        assert refused.value.code is Code.UNSAFE_STATE
        assert str(path) in refused.value.message
        assert "damaged at byte" in refused.value.message
        assert path.read_bytes() == bytes(damaged), "a damaged journal is evidence and is left as it is"


def test_journal_of_any_shorter_length_is_a_prefix_of_what_was_written(tmp_path: Path) -> None:
    """SPEC node-2: an incomplete last frame was never acknowledged and is cut off; every whole one stays."""
    path = tmp_path / "journal"
    whole = write(path, RECORDS)
    ends = [len(MAGIC)]
    for record in RECORDS:
        ends.append(ends[-1] + 8 + len(record) + 32)
    assert ends[-1] == len(whole)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        kept = max(sum(1 for end in ends if end <= length) - 1, 0)
        assert read(path) == RECORDS[:kept]
        assert path.stat().st_size == (ends[kept] if length >= len(MAGIC) else len(MAGIC))
        assert read(path) == RECORDS[:kept], "what recovery leaves behind is a journal"


def test_journal_refuses_a_record_that_was_moved_or_repeated(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    whole = write(path, [b"one", b"two", b"six"])
    frame = 8 + 3 + 32
    head, frames = whole[: len(MAGIC)], [whole[len(MAGIC) + n * frame :][:frame] for n in range(3)]
    for order in ([1, 0, 2], [0, 0, 1], [0, 2], [2, 1, 0]):
        path.write_bytes(head + b"".join(frames[n] for n in order))
        with pytest.raises(Refused, match="damaged"):
            read(path)


def test_journal_refuses_a_tail_of_zeros(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    whole = write(path, RECORDS)
    path.write_bytes(whole + bytes(64))
    with pytest.raises(Refused, match=f"damaged at byte {len(whole)}"):
        read(path)


def test_journal_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    first = Journal(path)
    with pytest.raises(Refused, match="another process"):
        Journal(path)
    first.close()
    Journal(path).close()


def test_journal_does_not_follow_links_and_takes_only_files(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"")
    (tmp_path / "journal").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match="cannot be opened"):
        Journal(tmp_path / "journal")
    with pytest.raises(Refused, match="cannot be opened"):
        Journal(tmp_path)


def test_journal_is_usable_again_once_a_full_disk_has_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    list(journal.recover())
    journal.append([b"before"])
    real, calls = os.pwrite, 0

    def full(fd: int, data: memoryview, offset: int) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            return real(fd, data[:5], offset)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(Refused) as refused:
        journal.append([b"does not fit"])
    assert refused.value.code is Code.OVERLOADED
    monkeypatch.undo()
    journal.append([b"after"])
    journal.close()
    assert read(path) == [b"before", b"after"]


def test_journal_never_writes_again_after_a_failed_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SPEC node-3: nothing is written after an fsync error; what was on disk is found by the next start."""
    path = tmp_path / "journal"
    journal = Journal(path)
    list(journal.recover())
    journal.append([b"before"])

    def fails(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(Refused) as refused:
        journal.append([b"unknown"])
    assert refused.value.code is Code.UNSAFE_STATE
    monkeypatch.undo()
    with pytest.raises(Refused, match="unsafe"):
        journal.append([b"later"])
    journal.close()
    assert read(path) == [b"before", b"unknown"]


def test_journal_is_on_disk_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SPEC node-1: the bytes are written, then synced, then reported."""
    journal = Journal(tmp_path / "journal")
    list(journal.recover())
    order: list[str] = []
    write_bytes, sync = os.pwrite, os.fsync

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        order.append("write")
        return write_bytes(fd, data, offset)

    def fsync(fd: int) -> None:
        order.append("sync")
        sync(fd)

    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(os, "fsync", fsync)
    journal.append([b"x"])
    assert order == ["write", "sync"]
    journal.close()


def test_journal_takes_records_up_to_its_limit(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    list(journal.recover())
    with pytest.raises(ValueError, match="at most"):
        journal.append([bytes(MAX_PAYLOAD_BYTES + 1)])
    journal.append([bytes(MAX_PAYLOAD_BYTES)])
    journal.close()
    assert read(tmp_path / "journal") == [bytes(MAX_PAYLOAD_BYTES)]
